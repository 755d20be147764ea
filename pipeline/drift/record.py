"""Writes the drift of a run for programs: as JSON, and in Prometheus' text format for a collector of text files."""

from __future__ import annotations

import json
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from pipeline.drift.check import Drift

RECORD, METRICS = "drift.json", "drift.prom"


def write_drift(drift: Drift | None, run_id: str, folder: Path) -> None:
    """Write what was measured, and what is beyond its limit; nothing measured where there was nothing to compare with.

    The gauges are zhiyin_drift and zhiyin_drift_limit with the label `measure`.
    """
    measures = drift.measures if drift else []
    record = {
        "run": run_id,
        "reference": drift.reference if drift else None,
        "exceeded": [measure.name for measure in drift.exceeded] if drift else [],
        "measures": {measure.name: {"value": measure.value, "limit": measure.limit} for measure in measures},
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.replace(folder / RECORD)
    registry = CollectorRegistry()
    moved = Gauge("zhiyin_drift", "How far the last run is from the last blessed one", ["measure"], registry=registry)
    limit = Gauge("zhiyin_drift_limit", "Beyond it the world is said to have moved", ["measure"], registry=registry)
    for measure in measures:
        moved.labels(measure.name).set(measure.value)
        limit.labels(measure.name).set(measure.limit)
    write_to_textfile(str(folder / METRICS), registry)


def has_drifted(folder: Path) -> bool:
    """Whether the record in a folder says that a limit was exceeded. Raises OSError where there is no record."""
    return bool(json.loads((folder / RECORD).read_text(encoding="utf-8"))["exceeded"])
