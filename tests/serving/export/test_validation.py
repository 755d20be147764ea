"""The exports behind the real model server, in a process of its own."""

import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from pipeline.nodes.serving_validator import ServingValidator
from serving.export import replay, saved_model, validation
from serving.export.validation import has_same_files, validate
from tests.serving import tiny, world

pytest.importorskip("serving.model_server.server")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Model artifacts with an answer each, ids with accents among the people."""
    folder = tmp_path_factory.mktemp("exported")
    made = {kind: world.artifact(standard_artifacts.Model, folder / kind) for kind in ("exact", "scann")}
    raw_items = {"item_id": tf.constant(["é", "y"]), "numeric": tf.constant([[1.0, 2, 3, 4], [0, 0, 2, 0]])}
    for kind, artifact in made.items():
        recommender = tiny.recommender(model, kind, rows={"Zoë": [(0, 1, 5.0)]})
        path = f"{artifact.uri}/Format-Serving"
        answers = replay.in_process(saved_model.save(recommender, path))
        requests = saved_model.requests_for(["Zoë"], ["i0", "i7"], raw_items, recommender.num_objectives)
        replay.record(path, answers, requests)
    return made


def run_node(exact, scann, folder):
    blessing = world.artifact(standard_artifacts.InfraBlessing, folder)
    ServingValidator.test_call(exact=exact, scann=scann, blessing=blessing, code="")
    return blessing


def test_the_server_answers_as_the_model_in_process(exported, tmp_path):
    """By gRPC and REST, both exports, every signature, batches and single requests."""
    blessing = run_node(exported["exact"], exported["scann"], tmp_path / "blessing")
    assert model_utils.is_infra_validated(blessing) and Path(blessing.uri, "INFRA_BLESSED").exists()
    assert blessing.get_string_custom_property("reason") == "56 answers are the recorded ones"


def test_copies_of_one_model_are_served_once_and_count_for_each(exported, tmp_path, monkeypatch):
    """As for a small catalogue, where both variants are the exact one."""
    exact = f"{exported['exact'].uri}/Format-Serving"
    copy = shutil.copytree(exact, tmp_path / "copy")
    served = []
    original = validation._served

    def watch(folder, names):
        served.extend(names)
        return original(folder, names)

    monkeypatch.setattr(validation, "_served", watch)
    assert validate({"exact": exact, "scann": str(copy)}) == {"exact": 28, "scann": 28}
    assert served == ["exact"]


def test_a_folder_with_one_other_byte_is_no_copy(tmp_path):
    for name, content in (("a", b"12"), ("b", b"12"), ("c", b"13")):
        Path(tmp_path, name, "inner").mkdir(parents=True)
        Path(tmp_path, name, "inner", "file").write_bytes(content)
    assert has_same_files(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not has_same_files(str(tmp_path / "a"), str(tmp_path / "c"))
    Path(tmp_path, "b", "more").touch()
    assert not has_same_files(str(tmp_path / "a"), str(tmp_path / "b"))


def test_another_answer_is_not_blessed(exported, model, tmp_path):
    """What was recorded for one model is not what another serves; nothing could be pushed then."""
    wrong = world.artifact(standard_artifacts.Model, tmp_path / "wrong")
    shutil.copytree(Path(exported["exact"].uri, "Format-Serving"), Path(wrong.uri, "Format-Serving"))
    target = f"{wrong.uri}/Format-Serving"
    other = replay.in_process(tiny.recommender(model, seed=1, rows={"Zoë": [(0, 1, 5.0)]}).signatures())
    requests = [
        (
            request.model_spec.signature_name,
            {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()},
        )
        for request, _ in replay.recorded(target)
    ]
    replay.record(target, other, requests)
    blessing = run_node(wrong, exported["scann"], tmp_path / "blessing")
    assert Path(blessing.uri, "INFRA_NOT_BLESSED").exists() and not model_utils.is_infra_validated(blessing)
    assert "serving_default, output" in blessing.get_string_custom_property("reason")


def test_a_server_that_cannot_start_says_why(tmp_path):
    """A folder without a model in it."""
    with pytest.raises(RuntimeError, match="the model server did not start: .*nothing"):
        validate({"nothing": str(tmp_path)})


def test_a_server_that_cannot_start_is_no_judgement_that_a_cache_would_keep(tmp_path):
    empty = world.artifact(standard_artifacts.Model, tmp_path / "model")
    Path(empty.uri, "Format-Serving").mkdir()
    with pytest.raises(RuntimeError, match="the model server did not start"):
        run_node(empty, empty, tmp_path / "blessing")
