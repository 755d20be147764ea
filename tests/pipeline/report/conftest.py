"""Two recorded runs for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import DataConfig, TableConfig
from pipeline.config import Config
from pipeline.report.facts import Facts, read_facts
from pipeline.run_history import RunRecord, read_runs
from serving.config import EvaluationConfig
from tests.pipeline.report import recorded


@pytest.fixture(scope="session")
def work_path(tmp_path_factory, pushed_version: Path) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "work"
    recorded.two_runs(folder, pushed_version)
    return folder


@pytest.fixture(scope="session")
def runs(work_path: Path) -> list[RunRecord]:
    return read_runs(work_path)


@pytest.fixture(scope="session")
def facts(config: Config, runs: list[RunRecord]) -> Facts:
    return read_facts(config, runs[-1], runs)


@pytest.fixture(scope="session")
def config(work_path: Path) -> Config:
    evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
    data = DataConfig(TableConfig("items.csv"), TableConfig("events.csv"))
    return Config("tiny", data, evaluation, work_dir=str(work_path))
