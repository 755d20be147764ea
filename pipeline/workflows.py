"""One run of the training DAG on this machine: checks the inputs, runs the nodes, says what each did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import TableConfig
from components.files import matching_files
from components.settings import SettingsError
from pipeline import catalog_updates, rejects_report, store_tables
from pipeline.config import Config, is_remote, localised
from pipeline.console import StageLines, quiet_libraries, remark
from pipeline.local_model import CurrentModel

if TYPE_CHECKING:
    from pipeline.dags import Trained
    from pipeline.local_runner import Stage


def train(config: Config) -> dict[str, Stage]:
    """Run the training DAG; returns its stages by node id.

    Raises SettingsError where an input is not there, StageFailed (a RuntimeError) at the first node that fails.
    """
    return _run(config)


def tune(config: Config) -> dict[str, Any]:
    """Run the DAG as far as its RetrievalTuner; returns what that found: `best`, `value`, `start_value`, `trials`.

    Raises as `train` does.
    """
    stage = _run(config, "RetrievalTuner")["RetrievalTuner"]
    return json.loads((stage.uri("tuner_results") / "tuner_results.json").read_text(encoding="utf-8"))


def refresh(config: Config) -> dict[str, Stage]:
    """Run the refresh DAG on the model that was pushed last; returns its stages by node id.

    Raises SettingsError where nothing has been pushed; else as `train`.
    """
    current = CurrentModel(config)
    model, ranker, blessing = (current.part(name) for name in ("model", "ranker", "ranker_blessing"))
    from pipeline.dags import Trained

    return _run(config, trained=Trained(str(model.path), str(ranker.path), str(blessing.path), blessing.is_blessed))


def _run(config: Config, last: str = "", trained: Trained | None = None) -> dict[str, Stage]:
    config = localised(store_tables.resolved(config))
    tables = {"catalogue": config.data.catalogue, "events": config.data.events}
    if config.data.users and config.retrieval.use_user_features and not trained:
        tables["users"] = config.data.users
    elif config.data.users:
        remark("data.users is not read: this run has no use for what is known of users (retrieval.use_user_features)")
    for name, table in tables.items():
        _require(f"data.{name}.path", table)
    roots = {"data.media_root": [config.data.media_root] if config.data.media_root else []}
    for setting, folders in (roots | {"data.media_roots": list(config.data.media_roots)}).items():
        for folder in folders:
            if not is_remote(folder) and not Path(folder).is_dir():
                raise SettingsError(f"{setting}: there is no folder {folder}")
    for encoder in config.encoders:
        if not is_remote(encoder.path) and not Path(encoder.path).is_dir():
            raise SettingsError(f"encoders: {encoder.name}: there is no folder {encoder.path}")
    quiet_libraries()
    from components.artifacts import file_fingerprint  # these import TFX: seconds
    from components.media.fingerprint import catalogue_media_fingerprint
    from pipeline import dags
    from pipeline.local_runner import StageFailed, run_locally

    places = dags.Places(
        serving=str(config.serving_path),
        blessed=str(config.work_path / "blessed"),
        checkpoints=str(config.work_path / "checkpoints"),
        tuning=str(config.work_path / "tuning"),
        catalogue_fingerprint=file_fingerprint([config.data.catalogue.path]),
        events_fingerprint=file_fingerprint([config.data.events.path]),
        users_fingerprint=file_fingerprint([config.data.users.path]) if config.data.users else "",
        media_fingerprint=catalogue_media_fingerprint(config.data),
        encoders_fingerprint=file_fingerprint([f"{encoder.path}/**" for encoder in config.encoders]),
        withdrawn=tuple(catalog_updates.withdrawn(config)),
    )
    nodes = dags.refresh(config, places, trained) if trained else dags.train(config, places)
    dags.resolve_functions(nodes)
    lines = StageLines()
    before = catalog_updates.newest(config)
    came_before = catalog_updates.added(before)
    finished: list[Stage] = []

    def done(stage: Stage) -> None:
        finished.append(stage)
        lines.done(stage)

    try:
        stages = run_locally(nodes, config.name, config.work_path, lines.start, done, last)
    except StageFailed:
        if rejects_report.write_rejects(finished, config.work_path):
            remark(rejects_report.rejects_line(config.work_path))
        raise
    rejects_report.write_rejects(finished, config.work_path)
    if catalog_updates.newest(config) != before:
        catalog_updates.carry_over(config, before if trained else None, came_before)
    return stages


def evaluation(stages: dict[str, Stage]) -> dict[str, Any]:
    """What the RetrievalEvaluator wrote: `rows` (contender, slice, metric, value, low, high, users), `blessed`, `reason`."""
    return json.loads((stages["RetrievalEvaluator"].uri("evaluation") / "metrics.json").read_text(encoding="utf-8"))


def references(config: Config, stages: dict[str, Stage]) -> list[dict[str, Any]]:
    """Rows of the references of a made world; none where the configuration names no truth."""
    if not config.ground_truth:
        return []
    from pipeline import synthetic_oracle as made_world

    return made_world.rows(
        Path(config.ground_truth),
        index_folder=stages["ItemIndex"].uri("index"),
        sequences=stages["Interactions"].uri("sequences"),
        items=stages["MediaFeatures"].uri("examples"),
        config=config.evaluation,
        data=config.data,
    )


def _require(setting: str, table: TableConfig) -> None:
    if not is_remote(table.path) and not matching_files(table.path):
        raise SettingsError(f"{setting}: no file matches {table.path}")
