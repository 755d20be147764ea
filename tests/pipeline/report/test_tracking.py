"""What a tracker is given is what the report says, read back by the tracker's own library."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.config import TRACKERS, Config
from pipeline.report import tracking
from pipeline.report.facts import Facts, numbers

ROOT = Path(__file__).parents[3]


class Found(NamedTuple):
    """What a library reads back of one run."""

    points: list[tuple[str, int, float]]
    settings: dict[str, Any]


def read_tensorboard(folder: Path) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag != metadata.SESSION_START_INFO_TAG]
    points = [
        (tag, point.step, float(make_ndarray(point.tensor_proto))) for tag in tags for point in events.Tensors(tag)
    ]
    session = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(session).hparams
    return Found(points, {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()})


def read_mlflow(folder: Path) -> Found:
    from mlflow import MlflowClient

    client = MlflowClient(folder.parents[1].as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert (run.info.run_id, run.info.status) == (folder.name, "FINISHED")
    assert run.info.end_time > run.info.start_time
    history = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
    return Found([(point.key, point.step, point.value) for point in history], run.data.params)


def read_wandb(folder: Path) -> Found:
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store, points, settings = DataStore(), [], {}
    (file,) = folder.glob("*.wandb")
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        record = Record.FromString(data)
        if record.HasField("run"):
            assert (record.run.project, record.run.run_id, record.run.host) == ("tiny", folder.name[-15:], "")
            settings = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        points += [(name, row["_step"], value) for name, value in row.items() if not name.startswith("_")]
    store.close()
    return Found(points, {name: value for name, value in settings.items() if name != "_wandb"})


READERS: dict[str, Callable[[Path], Found]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}


@pytest.fixture(params=READERS)
def tracker(request) -> str:
    pytest.importorskip(TRACKERS[request.param], reason="the extra `tracking` is not installed")
    return request.param


def name_in(tracker: str, name: str) -> str:
    return tracking.mlflow_name(name) if tracker == "mlflow" else name


@pytest.fixture
def untouched(monkeypatch, tmp_path_factory) -> Path:
    """The folder that a library takes for the user's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


def test_a_tracker_has_the_numbers_the_curves_and_the_settings(
    tracker: str, config: Config, facts: Facts, tmp_path: Path, untouched: Path, monkeypatch, capfd
) -> None:
    config = dataclasses.replace(config, tracking=tracker, work_dir=str(tmp_path / "a work folder"))
    before = dict(os.environ)
    for _ in range(2):  # a report that is written again adds nothing
        folder = tracking.track(config, facts)
    assert dict(os.environ) == before
    assert not list(untouched.iterdir())
    assert capfd.readouterr() == ("", "")
    assert folder.is_relative_to(config.work_path / "tracking" / tracker)

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    found = READERS[tracker](folder)
    expected = {name_in(tracker, name): value for name, value in numbers(facts).items()}
    at_zero = [(name, value) for name, step, value in found.points if not step]
    assert len(at_zero) == len(expected)
    assert dict(at_zero) == pytest.approx(expected)
    curve = [(step, value) for name, step, value in found.points if name == "curves/Retrieval/content validation error"]
    assert curve == [(1, pytest.approx(0.9)), (2, pytest.approx(0.5)), (3, pytest.approx(0.6))]
    assert float(found.settings["retrieval.learning_rate"]) == config.retrieval.learning_rate
    assert found.settings["data.split.kind"] == "time"
    assert len(found.settings) == len(dict(tracking.settings(dataclasses.asdict(config))))


def test_runs_stand_side_by_side(tracker: str, config: Config, facts: Facts, tmp_path: Path) -> None:
    config = dataclasses.replace(config, tracking=tracker, work_dir=str(tmp_path))
    earlier = dataclasses.replace(facts, run=dataclasses.replace(facts.run, run_id="20260228-090000"))
    folders = {tracking.track(config, each) for each in (earlier, facts, earlier)}
    there = {path for path in folders if path.is_dir()}
    assert len(there) == 2


def test_the_process_of_wandb_ends_with_the_call(config: Config, facts: Facts, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra `tracking` is not installed")
    tracking.track(dataclasses.replace(config, tracking="wandb", work_dir=str(tmp_path)), facts)
    listed = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "comm="], capture_output=True, text=True)
    children = listed.stdout.split()
    assert "ps" in children
    assert "wandb-core" not in children


def test_names_that_mlflow_refuses_stay_apart() -> None:
    names = [
        "test/all/NDCG@10",
        "drift/items: price",
        "test/jazz & blues/MRR",
        "test/jazz + blues/MRR",
        "test/民謠/MRR",
    ]
    found = [tracking.mlflow_name(name) for name in names]
    assert found[:2] == ["test/all/NDCG_at_10", "drift/items: price"]
    assert found[4] == names[4]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"[/\w.\- :]*", name) for name in found)  # what it says that it takes


def test_settings_have_no_places(config: Config) -> None:
    data = dataclasses.replace(config.data, media_root="/somebody/s/music", categorical=("mood", "tempo"))
    found = dict(tracking.settings(dataclasses.asdict(dataclasses.replace(config, data=data))))
    assert found["data.categorical"] == "mood, tempo"
    assert found["data.event_rules.like.weight"] == 3.0
    assert found["refit"] is True
    assert "data.media_roots" not in found
    assert not [name for name, value in found.items() if "items.csv" in str(value) or "/" in str(value)]


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_library_that_is_missing_is_named_before_anything_is_computed(tracker: str, tmp_path: Path) -> None:
    """A process in which the library cannot be found; the data are there."""
    (tmp_path / "items.csv").write_text("item_id\ni1\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu1,i1,1700000000\n")
    (tmp_path / "tiny.yaml").write_text(
        f"name: tiny\ntracking: {tracker}\nwork_dir: {tmp_path}/work\n"
        f"data: {{catalogue: {{path: {tmp_path}/items.csv}}, events: {{path: {tmp_path}/events.csv}}}}\n"
        "evaluation: {min_gain_over_popularity: 0, max_loss_to_last: 0}\n"
    )
    program = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *more: None if name == {tracker!r} else found(name, *more)\n"
        "from pipeline import cli\n"
        f"sys.exit(cli.main(['run', '--config', {str(tmp_path / 'tiny.yaml')!r}]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert f"tracking: {tracker} needs the extra `tracking`" in ended.stderr
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["run.lock"]


def test_without_a_tracker_nothing_is_written(config: Config, facts: Facts, tmp_path: Path) -> None:
    assert tracking.track(dataclasses.replace(config, work_dir=str(tmp_path)), facts) is None
    assert not list(tmp_path.iterdir())


def test_the_configuration_names_the_trackers_that_there_are(config: Config) -> None:
    assert set(TRACKERS) == set(tracking.WRITERS) == set(READERS)
    with pytest.raises(ValueError, match="expected tensorboard, mlflow, wandb or nothing"):
        dataclasses.replace(config, tracking="paper")
