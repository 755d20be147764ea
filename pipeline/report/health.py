"""The health of a run's data: the account of each table, rejects by reason, absent values, anomalies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from components.account import ACCEPTED, COPIES, REJECTED, ROWS, remarks
from pipeline.drift.snapshot import statistics_of
from pipeline.run_history import RunRecord

TABLES = {"CatalogGen": "catalog", "EventGen": "events", "UserGen": "users"}
STAGES = {**TABLES, "MediaFeatures": "media", "FrozenEncoders": "encoders", "Interactions": "interactions"}
STATISTICS = {"CatalogStatistics": "catalog", "EventStatistics": "events"}
VALIDATORS = {"CatalogValidator": "catalog", "EventValidator": "events"}
OF_PEOPLE = ("users", "interactions")  # stages whose rejects say in their detail whose row it is
MOST_REJECTS = 20  # that are shown with their place


@dataclass(frozen=True)
class StageAccount:
    """What one stage took in and what it could not use."""

    name: str
    rows: int
    accepted: int
    rejects: dict[str, int]  # by reason
    remarks: list[str]


@dataclass(frozen=True)
class FileAccount:
    """The account of one file: rows = accepted + rejected + copies."""

    table: str
    file: str  # its name
    rows: int
    accepted: int
    rejected: int
    copies: int


@dataclass(frozen=True)
class Column:
    """How often a column's value is absent."""

    table: str
    name: str
    rows: int
    missing: int


@dataclass(frozen=True)
class Health:
    """All that is known of the data of one run."""

    stages: list[StageAccount]
    files: list[FileAccount]
    columns: list[Column]
    anomalies: list[str]  # against the schema, a line each
    rejects: list[dict[str, Any]]  # the first few: stage, source, line, item_id, reason; detail where it names nobody

    @property
    def num_rejects(self) -> int:
        """Over all stages."""
        return sum(sum(stage.rejects.values()) for stage in self.stages)

    def rows_of(self, table: str) -> int:
        """The accepted rows of a table; 0 where it was not read."""
        return next((stage.accepted for stage in self.stages if stage.name == table), 0)


def read_health(run: RunRecord) -> Health:
    """The health of a run's data, as far as the run recorded it."""
    stages, files, rejects = [], [], []
    for node, name in STAGES.items():
        folder = run.output(node, "rejects")
        if folder is None:
            continue
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        stages.append(StageAccount(name, summary["rows"], summary["accepted"], summary["rejects"], remarks(summary)))
        files += [_file(name, path, counts) for path, counts in sorted(summary["files"].items())]
        with (folder / "rejects.jsonl").open(encoding="utf-8") as lines:
            rejects += [_shown(json.loads(line), name) for line in islice(lines, MOST_REJECTS)]
    columns = [column for node, table in STATISTICS.items() for column in _columns(run, node, table)]
    anomalies = [line for node, table in VALIDATORS.items() for line in _anomalies(run, node, table)]
    return Health(stages, files, columns, anomalies, rejects[:MOST_REJECTS])


def _file(table: str, path: str, counts: dict[str, int]) -> FileAccount:
    return FileAccount(table, Path(path).name, *(counts.get(kind, 0) for kind in (ROWS, ACCEPTED, REJECTED, COPIES)))


def _shown(reject: dict[str, Any], stage: str) -> dict[str, Any]:
    names_somebody = stage in OF_PEOPLE or reject["detail"].startswith("user_id:")
    detail = "" if names_somebody else reject["detail"]
    return {**reject, "source": Path(reject["source"]).name, "detail": detail}


def _columns(run: RunRecord, node: str, table: str) -> list[Column]:
    statistics = statistics_of(run, node)
    if statistics is None:
        return []
    (dataset,) = statistics.datasets
    return [
        Column(table, feature.path.step[0], dataset.num_examples, dataset.num_examples - _present(feature))
        for feature in dataset.features
    ]


def _present(feature: Any) -> int:
    return getattr(feature, feature.WhichOneof("stats")).common_stats.num_non_missing


def _anomalies(run: RunRecord, node: str, table: str) -> list[str]:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    folder = run.output(node, "anomalies")
    if folder is None:
        return []
    found = anomalies_pb2.Anomalies.FromString((folder / "Split-train" / "SchemaDiff.pb").read_bytes())
    return [f"{table}, {name}: {info.description}" for name, info in sorted(found.anomaly_info.items())]
