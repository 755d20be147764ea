"""Lists the runs of a work folder: their data, headline numbers and sizes, and which of them are kept by a purge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.lineage import parts_of_version
from pipeline.report.write import FOLDER
from pipeline.run_history import RunRecord, last_blessed, read_runs
from pipeline.versions import versions_in


@dataclass(frozen=True)
class RunSummary:
    """One run in a line."""

    run_id: str
    started_at: str  # ISO 8601, local time
    kind: str  # train or refresh
    items: int  # accepted rows
    events: int
    metric: str  # that decides; empty after a refresh
    value: float | None
    popularity: float | None
    is_blessed: bool | None  # None where it judged no model
    version: str  # that it pushed; empty where it pushed none
    is_current: bool  # whether that version is the newest
    failed_at: str  # the node; empty where none failed
    size_bytes: int  # of its artifacts; one that several runs share counts in each


@dataclass(frozen=True)
class PurgePlan:
    """What goes and what stays."""

    kept: list[str]  # run ids
    removed: list[str]
    paths: list[Path]  # folders that go

    @property
    def size_bytes(self) -> int:
        """Of all that goes."""
        return sum(map(size_of, self.paths))


def summaries(config: Config) -> list[RunSummary]:
    """The runs of which something is left on disk, the oldest first."""
    runs = _there(config)
    current = _current(config, runs)
    return [_summary(run, run is current) for run in runs]


def plan_purge(config: Config, keep: int) -> PurgePlan:
    """What goes where the newest few runs stay, with the current one and the last blessed one, model and ranker.

    What a run that stays has in common with one that goes stays too.
    """
    runs = _there(config)
    kept_runs = _kept(config, runs, keep)
    needed = {path.resolve() for run in kept_runs for path in _outputs(run)}
    for run in kept_runs:
        if run.version:
            parts = parts_of_version(config.work_path, config.name, run.version).values()
            needed |= {part.path.resolve() for part in parts}
    versions = {str(version) for run in kept_runs for version in _versions_of(run)}
    paths = [path for path in _artifact_folders(config.work_path) if path.resolve() not in needed]
    for folder in sorted(config.serving_path.glob("*")):
        paths += [path for path in versions_in(folder)[:-1] if path.name not in versions]
    given = "\n".join(text for run in kept_runs for node in run.nodes.values() for text in node.parameters)
    paths += [path for path in sorted((config.work_path / "snapshots").glob("*")) if path.name not in given]
    removed = [run.run_id for run in runs if run not in kept_runs]
    reports = [path for run_id in removed for path in (config.work_path / FOLDER).glob(f"*{run_id}*")]
    return PurgePlan([run.run_id for run in kept_runs], removed, [*paths, *sorted(set(reports))])


def size_of(path: Path) -> int:
    """Bytes of a file or of everything in a folder."""
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _there(config: Config) -> list[RunRecord]:
    """The runs of which an artifact is left."""
    return [run for run in read_runs(config.work_path) if any(path.exists() for path in _outputs(run))]


def _kept(config: Config, runs: Sequence[RunRecord], keep: int) -> list[RunRecord]:
    ranked = next((run for run in reversed(runs) if _has_blessed_ranker(run)), None)
    always = [run for run in (_current(config, runs), last_blessed(list(runs)), ranked) if run is not None]
    newest = runs[-keep:] if keep else []
    return [run for run in runs if run in newest or run in always]


def _has_blessed_ranker(run: RunRecord) -> bool:
    return "RankingEvaluator" in run.nodes and bool(run.nodes["RankingEvaluator"].properties.get("blessed"))


def _current(config: Config, runs: Sequence[RunRecord]) -> RunRecord | None:
    """The newest run that pushed the version that is newest."""
    newest = [path.name for path in versions_in(config.serving_path / config.name)[-1:]]
    return next((run for run in reversed(runs) if [run.version] == newest), None)


def _summary(run: RunRecord, is_current: bool) -> RunSummary:
    decision = (run.evaluation() or {}).get("decision", {})
    return RunSummary(
        run_id=run.run_id,
        started_at=run.started_at.isoformat(timespec="seconds"),
        kind="train" if run.trains else "refresh",
        items=_accepted(run, "CatalogGen"),
        events=_accepted(run, "EventGen"),
        metric=decision.get("metric", ""),
        value=decision.get("value"),
        popularity=decision.get("popularity"),
        is_blessed=run.is_blessed,
        version=run.version,
        is_current=is_current,
        failed_at=run.failed,
        size_bytes=sum(size_of(path) for path in set(_outputs(run)) if path.exists()),
    )


def _accepted(run: RunRecord, node: str) -> int:
    folder = run.output(node, "rejects")
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))["accepted"] if folder else 0


def _outputs(run: RunRecord) -> list[Path]:
    return [path for node in run.nodes.values() for path in node.outputs.values()]


def _versions_of(run: RunRecord) -> list[object]:
    """What the pushers of a run pushed."""
    return [node.properties["pushed_version"] for node in run.nodes.values() if "pushed_version" in node.properties]


def _artifact_folders(work_path: Path) -> list[Path]:
    """artifacts/node/output/execution, of every execution."""
    return sorted(path for path in (work_path / "artifacts").glob("*/[!.]*/*") if path.name.isdigit())
