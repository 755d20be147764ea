"""The offline evaluation of a run, slice by slice, and the deciding metric of the runs before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.run_history import REFIT_FILE, RunRecord

MOST_PAST_RUNS = 12


@dataclass(frozen=True)
class Interval:
    """A mean over users with its 95 % interval, which a whole-list metric has not."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Slice:
    """One part of the evaluation: the metrics of each method."""

    name: str
    users: int
    methods: dict[str, dict[str, Interval]]  # method -> metric -> value, ours first


@dataclass(frozen=True)
class Quality:
    """How good the lists of a run's model are on the test split."""

    metric: str  # that decides
    decision: dict[str, Any]  # blessed, reason, metric, value, popularity, last
    slices: list[Slice]
    users: int
    users_without_truth: int
    targets_after_question: int | None  # of an earlier release, which did not count them: None
    data: str  # digest: equal where the same people are asked for the same things
    refit: str = ""  # what the served and the judged model were trained on; empty where they are one


@dataclass(frozen=True)
class PastRun:
    """The deciding number of one run."""

    run_id: str
    interval: Interval
    is_blessed: bool
    has_same_data: bool  # as the run that the report is of


def read_quality(run: RunRecord) -> Quality | None:
    """The evaluation of a run; None where it made none."""
    report, served = run.evaluation(), run.output("RetrievalRefit", "served_model")
    if not report:
        return None
    return replace(of_report(report), refit=(served / REFIT_FILE).read_text(encoding="utf-8") if served else "")


def of_report(report: dict[str, Any]) -> Quality:
    """The evaluation in a `metrics.json` (docs/artifacts.md)."""
    slices: dict[str, Slice] = {}
    for row in report["rows"]:
        part = slices.setdefault(row["slice"], Slice(row["slice"], row["users"], {}))
        interval = Interval(row["value"], row.get("low"), row.get("high"))
        part.methods.setdefault(row["contender"], {})[row["metric"]] = interval
    return Quality(
        report["decision"]["metric"],
        report["decision"],
        list(slices.values()),
        report["users"],
        report["users_without_truth"],
        report.get("targets_after_question"),
        report["data"],
    )


def past_runs(runs: Sequence[RunRecord], of: RunRecord, quality: Quality) -> list[PastRun]:
    """The deciding metric of this run and of those that trained before it, the oldest first."""
    found = []
    for run in runs:
        report = run.evaluation() if run.started_at <= of.started_at else None
        if report is None:
            continue
        ours = of_report(report)
        interval = next((part.methods["ours"].get(quality.metric) for part in ours.slices if part.name == "all"), None)
        if interval:
            found.append(PastRun(run.run_id, interval, bool(run.is_blessed), ours.data == quality.data))
    return found[-MOST_PAST_RUNS:]
