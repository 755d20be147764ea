"""Judging and pushing by whole runs: what the cache answers, and what it must not."""

from pathlib import Path

import pytest
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import pusher_pb2
from tfx.types.standard_artifacts import Model, ModelBlessing
from tfx.utils import path_utils

from pipeline.lineage import PUSHER
from pipeline.local_runner import run_locally
from pipeline.nodes.model_pusher import ModelPusher
from pipeline.run_history import read_runs
from serving.offline.blessing import read_last, write_last

pytestmark = pytest.mark.filterwarnings("default")


@component
def MadeModel(model: OutputArtifact[Model], name: Parameter[str]) -> None:
    """A model that is nothing but its name."""
    folder = Path(model.uri, "Format-Serving")
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(name)


def run(work: Path, name: str) -> tuple[bool, str]:
    """Whether the pusher was answered from the cache, and the version that it says."""
    made = MadeModel(name=name)
    folder = pusher_pb2.PushDestination.Filesystem(base_directory=str(work / "serving" / "tiny"))
    destination = pusher_pb2.PushDestination(filesystem=folder)
    pusher = ModelPusher(model=made.outputs["model"], push_destination=destination).with_id(PUSHER)
    stage = run_locally([made, pusher], "tiny", work, lambda *_: None, lambda _: None)[PUSHER]
    (pushed,) = stage.outputs["pushed_model"]
    return stage.cached, pushed.get_string_custom_property("pushed_version")


def test_going_back_to_an_earlier_model_publishes_it_anew(tmp_path):
    _, first = run(tmp_path, "a")
    assert run(tmp_path, "a") == (True, first), "what is the newest is not pushed again"
    _, second = run(tmp_path, "b")
    was_cached, third = run(tmp_path, "a")
    assert not was_cached and int(third) > int(second) > int(first)
    assert (tmp_path / "serving" / "tiny" / third / "saved_model.pb").read_text() == "a"
    assert run(tmp_path, "a") == (True, third)
    assert [one.version for one in read_runs(tmp_path)] == [first, first, second, third, third]


def test_a_version_that_was_removed_comes_back(tmp_path):
    _, first = run(tmp_path, "a")
    (tmp_path / "serving" / "tiny" / first).rename(tmp_path / "aside")
    was_cached, again = run(tmp_path, "a")
    assert not was_cached and (tmp_path / "serving" / "tiny" / again).is_dir()


@component
def Judge(model: InputArtifact[Model], blessing: OutputArtifact[ModelBlessing], blessed_dir: Parameter[str]) -> None:
    """Blesses what is no worse than the last: of letters, what does not come before it."""
    folder = path_utils.serving_model_path(model.uri)
    name, last = Path(folder, "saved_model.pb").read_text(), read_last(blessed_dir)
    is_blessed = last is None or name >= Path(last.model, "saved_model.pb").read_text()
    if is_blessed:
        write_last(blessed_dir, folder, "letter", 0.0, "")
    blessing.set_int_custom_property("blessed", int(is_blessed))


def judged(work: Path, name: str) -> tuple[bool, int]:
    """Whether the verdict was answered from the cache, and what it is."""
    made = MadeModel(name=name)
    judge = Judge(model=made.outputs["model"], blessed_dir=str(work / "blessed"))
    stage = run_locally([made, judge], "tiny", work, lambda *_: None, lambda _: None)["Judge"]
    return stage.cached, stage.outputs["blessing"][0].get_int_custom_property("blessed")


def test_a_model_that_another_has_followed_is_judged_anew(tmp_path):
    assert judged(tmp_path, "a") == (False, 1) and judged(tmp_path, "a") == (True, 1)
    assert judged(tmp_path, "b") == (False, 1) and judged(tmp_path, "b") == (True, 1)
    assert judged(tmp_path, "a") == (False, 0), "it was blessed before there was a better one"
    assert judged(tmp_path, "a") == (True, 0) and judged(tmp_path, "b") == (True, 1)
    (tmp_path / "blessed" / "last_blessed.json").unlink()
    assert judged(tmp_path, "a") == (False, 1), "published without a comparison, as the owner wants"
