"""Which artifacts the current version was made from, whatever ran before and after it was pushed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.settings import SettingsError
from pipeline.lineage import STORE, parts_of_version
from pipeline.local_model import CurrentModel
from tests.pipeline.runs import Runs

NAMES = {"model", "items", "ranker", "ranker_blessing", "catalogue", "transformed_items", "judged_model"}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "work")


def paths(runs: Runs, version: str) -> dict[str, str]:
    return {name: str(part.path) for name, part in parts_of_version(runs.work_path, runs.name, version).items()}


def test_a_run_that_was_not_blessed_changes_nothing(runs: Runs) -> None:
    pushed = runs.train("1")
    runs.train("")
    assert paths(runs, "1") == {name: runs.uri(artifact) for name, artifact in pushed.items()}
    assert set(paths(runs, "1")) == NAMES
    assert parts_of_version(runs.work_path, runs.name, "1")["ranker_blessing"].is_blessed


def test_a_refresh_has_its_own_catalogue_and_the_model_of_the_run(runs: Runs) -> None:
    """Items go through the node of the frozen encoders, the model through an importer that made nothing."""
    trained = runs.train("1")
    refreshed = runs.refresh(trained, "2")
    found = paths(runs, "2")
    assert {name: found[name] for name in refreshed} == {name: runs.uri(refreshed[name]) for name in refreshed}
    assert {name: found[name] for name in ("model", "ranker", "transformed_items")} == {
        name: runs.uri(trained[name]) for name in ("model", "ranker", "transformed_items")
    }
    assert paths(runs, "1")["catalogue"] == runs.uri(trained["catalogue"])


def test_the_newest_version_that_is_there_counts(runs: Runs, config_of) -> None:
    """Removing a version is how one goes back to the one before."""
    first = runs.train("1")
    runs.train("2")
    shutil.rmtree(runs.work_path / "serving" / runs.name / "2")
    assert str(CurrentModel(config_of(runs.work_path)).part("model").path) == runs.uri(first["model"])


def test_a_copied_work_folder_is_read_where_it_is(runs: Runs, tmp_path: Path) -> None:
    runs.train("1")
    shutil.move(runs.work_path, tmp_path / "moved")
    found = parts_of_version(tmp_path / "moved", runs.name, "1")
    assert set(found) == NAMES
    assert all(part.path.is_dir() and part.path.is_relative_to(tmp_path / "moved") for part in found.values())


def test_a_read_only_work_folder_can_be_read(runs: Runs) -> None:
    runs.train("1")
    (runs.work_path / STORE).chmod(0o400)
    runs.work_path.chmod(0o500)
    try:
        assert set(paths(runs, "1")) == NAMES
    finally:
        runs.work_path.chmod(0o700)


def test_what_is_not_known_is_said(runs: Runs, config_of, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no model has been pushed"):
        CurrentModel(config_of(runs.work_path))
    runs.train("1")
    (runs.work_path / "serving" / runs.name / "9").mkdir()  # copied here by hand
    with pytest.raises(SettingsError, match="the run that version 9 came from is not in"):
        CurrentModel(config_of(runs.work_path)).part("model")
    assert parts_of_version(tmp_path, runs.name, "1") == {}
    (runs.work_path / STORE).write_text("no database")
    with pytest.raises(RuntimeError, match="cannot be read"):
        parts_of_version(runs.work_path, runs.name, "1")
