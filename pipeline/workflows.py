"""Runs the DAGs on this machine: checks the inputs, runs the nodes, says what each did."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import TableConfig
from components.files import matching_files
from components.settings import SettingsError
from pipeline import beam_engine, catalog_updates, rejects_report, store_tables
from pipeline.config import Config, PipelineEngineConfig, is_remote, localised
from pipeline.console import StageLines, quiet_libraries, remark
from pipeline.local_model import CurrentModel
from pipeline.report import tracking
from pipeline.run_history import REFIT_FILE
from pipeline.run_lock import one_run_at_a_time

if TYPE_CHECKING:
    from tfx.dsl.components.base.base_node import BaseNode

    from pipeline.dags import ServedModelUris
    from pipeline.ingest import RunPaths
    from pipeline.local_runner import Stage


def train(config: Config) -> dict[str, Stage]:
    """Run the training DAG; returns its stages by node id.

    Raises SettingsError where an input is not there, StageFailed (a RuntimeError) at the first node that fails, and
    RuntimeError where another run uses the work folder.
    """
    with one_run_at_a_time(config.work_path):
        stages = _run(config)
        _write_report(config)
    return stages


def tune(config: Config) -> dict[str, Any]:
    """Run the training DAG as far as its RetrievalTuner.

    Returns what that found: `best`, `value`, `start_value`, `trials`. Raises as `train` does.
    """
    with one_run_at_a_time(config.work_path):
        stage = _run(config, up_to="RetrievalTuner")["RetrievalTuner"]
        return json.loads((stage.uri("tuner_results") / "tuner_results.json").read_text(encoding="utf-8"))


def refresh(config: Config) -> dict[str, Stage]:
    """Run the refresh DAG on the model that is current; returns its stages by node id.

    Raises SettingsError where nothing has been pushed, or where the ranker reads other names than `data` has; else as
    `train`.
    """
    with one_run_at_a_time(config.work_path):
        current = CurrentModel(config)
        model, ranker, blessing = (current.part(name) for name in ("model", "ranker", "ranker_blessing"))
        from pipeline.dags import ServedModelUris
        from trainer.ranking.reads import check_reads

        if blessing.is_blessed:
            check_reads(f"{ranker.path}/Format-Serving", config.data)
        served = ServedModelUris(str(model.path), str(ranker.path), str(blessing.path), blessing.is_blessed)
        stages = _run(config, served)
        _write_report(config)
    return stages


def evaluation(stages: dict[str, Stage]) -> dict[str, Any]:
    """What the RetrievalEvaluator wrote: `rows` (contender, slice, metric, value, low, high, users), `decision`."""
    return json.loads((stages["RetrievalEvaluator"].uri("evaluation") / "metrics.json").read_text(encoding="utf-8"))


def server_refusal(stages: dict[str, Stage]) -> str:
    """Why the ServingValidator did not let the model be pushed; empty where it did."""
    (blessing,) = stages["ServingValidator"].outputs["blessing"]
    if blessing.get_int_custom_property("blessed"):
        return ""
    return f"the model server's answers are not the model's: {blessing.get_string_custom_property('reason')}"


def refit_account(stages: dict[str, Stage]) -> str:
    """What the served retrieval model was trained on beside the judged one; empty where `refit` is off."""
    if "RetrievalRefit" not in stages:
        return ""
    return (stages["RetrievalRefit"].uri("served_model") / REFIT_FILE).read_text(encoding="utf-8")


def ground_truth_rows(config: Config, stages: dict[str, Stage]) -> list[dict[str, Any]]:
    """Rows of the oracle of a synthetic world, as `evaluation` has them; none where no ground truth is configured."""
    if not config.ground_truth:
        return []
    from pipeline import synthetic_oracle

    return synthetic_oracle.rows(
        Path(config.ground_truth),
        index_folder=stages["ItemIndex"].uri("index"),
        sequences=stages["Interactions"].uri("sequences"),
        items=stages["MediaFeatures"].uri("examples"),
        config=config.evaluation,
        data=config.data,
    )


def _run(config: Config, served: ServedModelUris | None = None, up_to: str = "") -> dict[str, Stage]:
    """Run the refresh DAG on a served model, or the training DAG, as far as a node where one is named."""
    config = localised(store_tables.resolved(config))
    trains = served is None and not up_to
    _check_inputs(config, reads_users=config.retrieval.use_user_features and served is None, trains=trains)
    beam_engine.check(config.engine.beam)
    tracking.check(config.tracking)
    quiet_libraries()
    from pipeline import dags  # TFX: seconds

    paths = _paths_of(config)
    nodes = dags.refresh(config, paths, served) if served else dags.train(config, paths)
    dags.resolve_functions(nodes)
    before = catalog_updates.newest(config)
    came_before = catalog_updates.added(before)
    stages = _run_nodes(nodes, config, up_to)
    if catalog_updates.newest(config) != before:
        catalog_updates.carry_over(config, before if served else None, came_before, paths.withdrawn)
    return stages


def _check_inputs(config: Config, reads_users: bool, trains: bool) -> None:
    """Raises SettingsError for the first input that is not there."""
    data = config.data
    _require("data.catalogue.path", data.catalogue)
    _require("data.events.path", data.events)
    if data.users and reads_users:
        _require("data.users.path", data.users)
    elif data.users:
        remark("data.users is not read: this run has no use for what is known of users (retrieval.use_user_features)")
    if trains and config.privacy.differential and data.split.kind == "time":
        remark(
            "privacy.differential: the cut between train and eval is a moment of everybody's events, which the "
            "guarantee does not cover (data.split.kind time; docs/privacy.md)"
        )
    if data.exposures and trains and not is_remote(data.exposures) and not Path(data.exposures).is_file():
        raise SettingsError(f"data.exposures: there is no file {data.exposures}")
    folders = [("data.media_root", data.media_root)] if data.media_root else []
    folders += [("data.media_roots", root) for root in data.media_roots]
    folders += [(f"encoders: {encoder.name}", encoder.path) for encoder in config.encoders]
    for setting, folder in folders:
        if not is_remote(folder) and not Path(folder).is_dir():
            raise SettingsError(f"{setting}: there is no folder {folder}")


def _paths_of(config: Config) -> RunPaths:
    """Where a run on this machine leaves what outlives it, and the state of its inputs."""
    from components.artifacts import file_fingerprint
    from components.media.fingerprint import catalogue_media_fingerprint
    from pipeline.ingest import RunPaths

    data = config.data
    return RunPaths(
        serving=str(config.serving_path),
        blessed=str(config.work_path / "blessed"),
        checkpoints=str(config.work_path / "checkpoints"),
        tuning=str(config.work_path / "tuning"),
        catalogue_fingerprint=file_fingerprint([data.catalogue.path]),
        events_fingerprint=file_fingerprint([data.events.path]),
        exposures_fingerprint=file_fingerprint([data.exposures]) if data.exposures else "",
        users_fingerprint=file_fingerprint([data.users.path]) if data.users else "",
        media_fingerprint=catalogue_media_fingerprint(data),
        encoders_fingerprint=file_fingerprint([f"{encoder.path}/**" for encoder in config.encoders]),
        withdrawn=tuple(catalog_updates.withdrawn(config)),
        forgotten=store_tables.forgotten_people(config),
    )


def _run_nodes(nodes: list[BaseNode], config: Config, up_to: str) -> dict[str, Stage]:
    """Run nodes with a line for each, and leave a table of what they rejected, also where one fails."""
    from pipeline.local_runner import StageFailed, run_locally

    lines = StageLines()
    finished: list[Stage] = []

    def done(stage: Stage) -> None:
        finished.append(stage)
        lines.done(stage)

    try:
        stages = run_locally(
            nodes,
            config.name,
            config.work_path,
            lines.start,
            done,
            up_to,
            config.engine.beam.arguments,
            _nodes_at_once(config.engine),
        )
    except StageFailed:
        if rejects_report.write_rejects(finished, config.work_path):
            remark(rejects_report.rejects_line(config.work_path))
        raise
    rejects_report.write_rejects(finished, config.work_path)
    return stages


def _nodes_at_once(engine: PipelineEngineConfig) -> int:
    """As configured, but one where nodes would have to share what only one may hold: a GPU, a TPU, the port of a
    training on several machines, the Spark context of Beam's job server; and no more than there are processors."""
    has_gpu = engine.device == "auto" and any(Path("/dev").glob("nvidia[0-9]*"))
    if has_gpu or engine.device in ("gpu", "tpu") or "TF_CONFIG" in os.environ or engine.beam.runner == "spark":
        return 1
    return min(engine.nodes_at_once, os.cpu_count() or 1)


def _write_report(config: Config) -> None:
    """The report of the run that has just ended; on the screen where it is, and what has moved."""
    from pipeline.report.write import write_newest

    facts, path = write_newest(config)
    tracking.track(config, facts)
    for line in facts.drift.lines() if facts.drift else ():
        remark(f"drift: {line}")
    if facts.vectors and facts.vectors.is_exceeded:
        remark(f"skew: {facts.vectors.name} differ by {facts.vectors.value:.3g} (limit {facts.vectors.limit:g})")
    remark(f"report: {path}")


def _require(setting: str, table: TableConfig) -> None:
    if not is_remote(table.path) and not matching_files(table.path):
        raise SettingsError(f"{setting}: no file matches {table.path}")
