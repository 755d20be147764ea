"""One run of the training DAG on this machine: checks the inputs, runs the nodes, says what each did."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import TableConfig
from components.settings import SettingsError
from pipeline.config import Config, is_remote, localised
from pipeline.console import StageLines

if TYPE_CHECKING:
    from pipeline.runners import Stage


def train(config: Config) -> dict[str, Stage]:
    """Run the training DAG; returns its stages by node id.

    Raises SettingsError where an input is not there, StageFailed (a RuntimeError) at the first node that fails.
    """
    config = localised(config)
    for setting, table in (("data.catalogue.path", config.data.catalogue), ("data.events.path", config.data.events)):
        _require(setting, table)
    if config.data.media_root and not is_remote(config.data.media_root) and not Path(config.data.media_root).is_dir():
        raise SettingsError(f"data.media_root: there is no folder {config.data.media_root}")
    from pipeline.runners import quiet_libraries, run_locally  # TFX: seconds to import

    quiet_libraries()
    from components.artifacts import file_fingerprint
    from pipeline import dags

    media_root = config.data.media_root
    places = dags.Places(
        serving=str(config.serving_path),
        blessed=str(config.work_path / "blessed"),
        catalogue_fingerprint=file_fingerprint([config.data.catalogue.path]),
        events_fingerprint=file_fingerprint([config.data.events.path]),
        media_fingerprint=file_fingerprint([f"{media_root}/**"]) if media_root else "",
    )
    nodes = dags.train(config, places)
    dags.resolve_functions(nodes)
    lines = StageLines()
    return run_locally(nodes, config.name, config.work_path, lines.start, lines.done)


def evaluation(stages: dict[str, Stage]) -> dict[str, Any]:
    """What the RetrievalEvaluator wrote: `rows` (contender, slice, metric, value, low, high, users), `blessed`, `reason`."""
    return json.loads((stages["RetrievalEvaluator"].uri("evaluation") / "metrics.json").read_text(encoding="utf-8"))


def _require(setting: str, table: TableConfig) -> None:
    if not is_remote(table.path) and not glob.glob(table.path, recursive=True):
        raise SettingsError(f"{setting}: no file matches {table.path}")
