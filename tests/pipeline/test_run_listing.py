"""The list of runs, and what a purge that keeps some of them takes and leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from ml_metadata.proto import metadata_store_pb2 as pb

from pipeline import cli
from pipeline.lineage import parts_of_version
from pipeline.run_history import read_runs
from pipeline.run_listing import plan_purge, summaries
from tests.pipeline.runs import Runs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Four runs on four days: blessed, blessed, refused, failed."""
    made = Runs(tmp_path / "work")
    for day, version in enumerate(("1", "2", "")):
        made.begin(f"2026-03-0{day + 1}T10:00:00.000001")
        made.train(version)
        evaluation = {"blessed": int(bool(version))}
        folder = made.path(made.execute("RetrievalEvaluator", {}, {"evaluation": evaluation})["evaluation"])
        decision = {"blessed": bool(version), "metric": "NDCG@10", "value": 0.2 + day / 100, "popularity": 0.1}
        (folder / "metrics.json").write_text(json.dumps({"decision": decision}))
    made.begin("2026-03-04T10:00:00.000001")
    made.execute("CatalogGen", {}, {"examples": {}})
    made.execute("EventGen", {}, {}, state=pb.Execution.FAILED)
    return made


@pytest.fixture
def config(runs: Runs, config_of):
    return config_of(runs.work_path)


def artifacts(runs: Runs) -> set[str]:
    return {path.name for path in (runs.work_path / "artifacts").glob("*/*/*")}


def test_the_list_says_what_was_blessed_what_is_served_and_what_failed(config) -> None:
    found = [(run.run_id[:8], run.is_blessed, run.version, run.is_current, run.failed_at) for run in summaries(config)]
    assert found == [
        ("20260301", True, "1", False, ""),
        ("20260302", True, "2", True, ""),
        ("20260303", False, "", False, ""),
        ("20260304", None, "", False, "EventGen"),
    ]
    assert [run.value and round(run.value, 2) for run in summaries(config)] == [0.2, 0.21, 0.22, None]


def test_a_run_that_failed_before_it_trained_is_no_refresh(config, runs) -> None:
    runs.begin("2026-03-05T10:00:00.000001")
    runs.execute("TrainedRetrieval", {}, {"result": {}})
    runs.execute("CatalogGen", {}, {}, state=pb.Execution.FAILED)
    assert [run.kind for run in summaries(config)] == ["train", "train", "train", "train", "refresh"]


def test_a_folder_that_is_named_by_another_digit_is_no_version(config, runs) -> None:
    (runs.work_path / "serving" / "tiny" / "²").mkdir()
    assert [run.version for run in summaries(config) if run.is_current] == ["2"]
    assert runs.work_path / "serving" / "tiny" / "²" not in plan_purge(config, keep=0).paths


def test_the_served_and_the_last_blessed_run_stay_however_few_are_kept(config, runs) -> None:
    plan = plan_purge(config, keep=0)
    assert [run[:8] for run in plan.kept] == ["20260302"]
    assert runs.work_path / "serving" / "tiny" / "1" in plan.paths
    assert runs.work_path / "serving" / "tiny" / "2" not in plan.paths


def test_what_was_planned_goes_and_the_current_version_is_whole(config, runs) -> None:
    plan = plan_purge(config, keep=1)
    before = {name: part.path for name, part in parts_of_version(runs.work_path, "tiny", "2").items()}
    for path in plan.paths:
        shutil.rmtree(path)
    assert [run.run_id[:8] for run in summaries(config)] == ["20260302", "20260304"]
    assert all(path.is_dir() for path in before.values())
    assert not plan_purge(config, keep=1).paths


def test_an_artifact_from_the_cache_stays_with_the_run_that_took_it(config, runs) -> None:
    """The last run was answered with the first one's catalogue."""
    first = read_runs(runs.work_path)[0].nodes["CatalogGen"].outputs["examples"]
    runs.begin("2026-03-05T10:00:00.000001")
    runs.execute("CatalogGen", {}, {"examples": {"uri": str(first)}}, state=pb.Execution.CACHED)
    assert read_runs(runs.work_path)[-1].nodes["CatalogGen"].state == "cached"
    assert first not in plan_purge(config, keep=1).paths
    assert first in plan_purge(config, keep=0).paths


def test_the_model_below_a_refresh_stays(config, runs) -> None:
    """Version 3 is a refresh of a model that a run trained which is not kept by itself."""
    runs.begin("2026-03-05T10:00:00.000001")
    trained = runs.train("3")
    runs.begin("2026-03-06T10:00:00.000001")
    runs.refresh(trained, "4")
    plan = plan_purge(config, keep=0)
    for path in plan.paths:
        shutil.rmtree(path)
    assert all(part.path.is_dir() for part in parts_of_version(runs.work_path, "tiny", "4").values())


def test_a_snapshot_of_the_store_goes_with_the_runs_that_read_it(config, runs) -> None:
    """The next run finds the one that the newest has read, or would compute everything anew."""
    for day, digest in ((5, "aa"), (6, "bb")):
        table = runs.work_path / "snapshots" / digest / "catalogue.jsonl.gz"
        table.parent.mkdir(parents=True)
        runs.begin(f"2026-03-0{day}T10:00:00.000001")
        given = {"data": json.dumps({"catalogue": {"path": str(table)}}), "forgotten": ""}
        runs.execute("CatalogGen", {}, {"examples": {}}, used=given)
    snapshots = runs.work_path / "snapshots"
    assert [path for path in plan_purge(config, keep=1).paths if path.parent == snapshots] == [snapshots / "aa"]
    assert [path for path in plan_purge(config, keep=2).paths if path.parent == snapshots] == []


@pytest.fixture
def command_line(config, settings, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings | {"work_dir": str(config.work_path)}))
    return lambda *words: cli.main([*words, "--config", str(path)])


def test_a_dry_run_names_what_would_go_and_removes_nothing(command_line, runs, capsys) -> None:
    before = artifacts(runs)
    assert command_line("purge", "--keep", "1", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "2 runs would go" in said and artifacts(runs) == before
    assert command_line("purge", "--keep", "1") == 0
    assert "2 runs removed" in capsys.readouterr().out and artifacts(runs) < before
    assert not any(Path(line).exists() for line in said.splitlines() if line.startswith("/"))


def test_runs_are_listed_for_people_and_for_programs(command_line, capsys) -> None:
    assert command_line("runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].endswith("current") and "failed at EventGen" in lines[5]
    assert command_line("runs", "--json") == 0
    assert [json.loads(line)["version"] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "", ""]


def test_a_negative_number_of_runs_is_refused(command_line, capsys) -> None:
    assert command_line("purge", "--keep", "-1") == 2
    assert "--keep: got -1" in capsys.readouterr().err
