"""Writes drift and skew for programs: as JSON, and in Prometheus' text format for a collector of text files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from pipeline.drift.check import Drift
from pipeline.drift.measures import Measure, beyond_limit
from pipeline.drift.skew import Skew

Kind = Literal["drift", "skew"]
_ABOUT = {
    "drift": "How far the last run is from the last blessed one",
    "skew": "How far what the newest version was asked is from what it was trained on",
}


def write_drift(drift: Drift | None, run_id: str, folder: Path) -> None:
    """Write what was measured, and what is beyond its limit; nothing measured where there was nothing to compare with.

    `drift.json`, where a limit that is switched off is null, and in `drift.prom` the gauges zhiyin_drift and
    zhiyin_drift_limit with the label `measure`.
    """
    facts = {"run": run_id, "reference": drift.reference if drift else None}
    _write("drift", facts, drift.measures if drift else [], folder)


def write_skew(skew: Skew, folder: Path) -> None:
    """As `write_drift`: `skew.json`, `skew.prom`, zhiyin_skew, zhiyin_skew_limit."""
    _write("skew", {"version": skew.version, "people": skew.people}, skew.measures, folder)


def read_skew(folder: Path) -> Skew | None:
    """What `write_skew` wrote last; None where it did not."""
    path = folder / "skew.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    limits = {name: inf if one["limit"] is None else one["limit"] for name, one in record["measures"].items()}
    measures = [Measure(name, one["value"], limits[name]) for name, one in record["measures"].items()]
    return Skew(record["version"], record["people"], measures)


def has_exceeded(kind: Kind, folder: Path) -> bool:
    """Whether the record in a folder says that a limit was exceeded. Raises OSError where there is no record."""
    return bool(json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))["exceeded"])


def _write(kind: Kind, facts: Mapping[str, Any], measures: Sequence[Measure], folder: Path) -> None:
    record = {
        **facts,
        "exceeded": [measure.name for measure in beyond_limit(measures)],
        "measures": {
            measure.name: {"value": measure.value, "limit": measure.limit if isfinite(measure.limit) else None}
            for measure in measures
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{kind}.json.partial"
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.replace(folder / f"{kind}.json")
    registry = CollectorRegistry()
    value = Gauge(f"zhiyin_{kind}", _ABOUT[kind], ["measure"], registry=registry)
    limit = Gauge(f"zhiyin_{kind}_limit", "Beyond it that is told", ["measure"], registry=registry)
    for measure in measures:
        value.labels(measure.name).set(measure.value)
        limit.labels(measure.name).set(measure.limit)
    write_to_textfile(str(folder / f"{kind}.prom"), registry)
