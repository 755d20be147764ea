"""Compares a run with the last blessed one before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.drift.config import DriftConfig
from pipeline.drift.measures import Compared, Measure, compare
from pipeline.drift.snapshot import read_snapshot
from pipeline.run_history import RunRecord


@dataclass(frozen=True)
class Drift(Compared):
    """How far the world of a run is from that of another."""

    reference: str  # id of the run that is compared with
    measures: list[Measure]

    def lines(self) -> list[str]:
        """What is beyond its limit, a line each."""
        return [
            f"{measure.name} has moved by {measure.value:.3g} since run {self.reference} (limit {measure.limit:g})"
            for measure in self.exceeded
        ]


def drift_of(run: RunRecord, runs: Sequence[RunRecord], limits: DriftConfig) -> Drift | None:
    """How far a run is from the newest blessed run before it; None where there is none of which something is left."""
    earlier = [one for one in runs if one.started_at < run.started_at and one.is_blessed]
    if not earlier:
        return None
    measures = compare(read_snapshot(earlier[-1]), read_snapshot(run), limits)
    return Drift(earlier[-1].run_id, measures) if measures else None
