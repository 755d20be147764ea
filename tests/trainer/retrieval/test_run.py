"""The entry point, from files to a SavedModel that another process reads without our code."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tests.documented import names, signatures, table, typed
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.export import as_parsed, item_request, raw_tensor_spec, user_request
from trainer.retrieval.run import run_fn

READER = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
for signature in sys.argv[2:]:
    request = {name: tf.constant(value) for name, value in np.load(f"{signature}.npz", allow_pickle=True).items()}
    np.save(f"{signature}.npy", loaded.signatures[signature](**request)["vector"])
assert not any(name.split(".")[0] in ("trainer", "components", "keras_nlp") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def exported(run_arguments, sequence_files, tmp_path_factory):
    """A model that `run_fn` trained and wrote, as TFX would have asked it to."""
    folder = tmp_path_factory.mktemp("model")
    arguments = run_arguments(folder, folder / "checkpoints") | {
        "eval_files": [str(Path(sequence_files["eval"]).parent / "*")]
    }
    run_fn(types.SimpleNamespace(**arguments | {"serving_model_dir": str(folder / "Format-Serving")}))
    return folder


@pytest.fixture(scope="module")
def served(exported):
    """The signatures of that model, read back once."""
    return tf.saved_model.load(str(exported / "Format-Serving")).signatures


@pytest.fixture(scope="module")
def elsewhere(exported, served, item_file, tiny, tmp_path_factory):
    """Signature -> the vectors that this process gets of it, and those that another one gets."""
    folder = tmp_path_factory.mktemp("elsewhere")
    table = ItemTable.build(item_file, tiny.DATA, folder / "table")
    requests = {"item_tower": item_request(table, np.arange(5), tiny.DATA)}
    vectors = served["item_tower"](**requests["item_tower"])["vector"].numpy()
    requests["user_tower"] = user_request(vectors, ("play", "skip"))
    for name, request in requests.items():
        np.savez(folder / f"{name}.npz", **{key: value.numpy() for key, value in request.items()})
    command = [sys.executable, "-W", "ignore", "-c", READER, str(exported / "Format-Serving"), *requests]
    subprocess.run(command, check=True, cwd=folder, timeout=120)
    here = {name: served[name](**request)["vector"].numpy() for name, request in requests.items()}
    return {name: (vectors, np.load(folder / f"{name}.npy")) for name, vectors in here.items()}


@pytest.mark.parametrize("signature", ["item_tower", "user_tower"])
def test_another_process_gets_the_same_vectors_without_our_code(elsewhere, signature):
    expected, got = elsewhere[signature]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


def test_the_graph_holds_core_operations_only(exported):
    """C26: no Python function and no custom op, in any function of the graph."""
    model = saved_model_pb2.SavedModel.FromString((exported / "Format-Serving" / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    ops = {node.op for node in graph.node} | {
        node.op for function in graph.library.function for node in function.node_def
    }
    assert not {op for op in ops if "PyFunc" in op or ">" in op}, ops
    assert ops


def test_the_report_says_what_was_decided_about_the_encoders(exported):
    (path,) = exported.rglob("report.json")
    report = json.loads(path.read_text())
    assert report["headline"].startswith("content encoders: not trained, ") and report["epochs"] == 0
    assert report["linear"] is None and report["with_encoders"] is None


def test_tensorboard_logs_hold_the_validation_metric(exported, tiny):
    events = list((exported / "run").rglob("events.*"))
    tags = {
        value.tag
        for path in events
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        for value in tf.compat.v1.Event.FromString(record).summary.value
    }
    assert {"epoch_loss", f"epoch_{tiny.CONFIG.metric}"} <= {tag.replace("val_", "") for tag in tags}


def test_an_unknown_event_counts_like_no_named_one_and_padding_counts_nothing(served):
    vectors = np.zeros((1, 2, 8), np.float32)
    vectors[0, 0, 0] = 1

    def user(first: str, second: str) -> np.ndarray:
        events = tf.constant([[first, second]])
        return served["user_tower"](
            user_id=tf.constant(["u"]), history_vectors=vectors, history_events=events, history_age_s=tf.zeros([1, 2])
        )["vector"].numpy()

    np.testing.assert_allclose(user("play", "like"), user("play", ""), atol=1e-6)
    assert np.abs(user("like", "") - user("skip", "")).max() > 1e-3
    assert np.isfinite(user("whistle", "")).all()
    np.testing.assert_allclose(
        user("", ""), user("whistle", ""), err_msg="an interaction without a kind is of an unknown one"
    )


def test_without_a_history_the_learned_similarity_is_the_dot_product(served):
    random = np.random.default_rng(0)
    query, candidates = random.normal(size=(2, 8)).astype(np.float32), random.normal(size=(2, 3, 8)).astype(np.float32)
    for length in (0, 4):
        scores = served["learned_similarity"](
            query=tf.constant(query), candidates=tf.constant(candidates), history=tf.zeros([2, length, 8])
        )["similarity"]
        np.testing.assert_allclose(scores, np.einsum("qd,qcd->qc", query, candidates), atol=1e-5)


@pytest.mark.parametrize("name", ["user_tower", "explain_user", "learned_similarity"])
def test_the_documented_names_and_types_of_a_signature_are_its_own(served, name):
    signature = served[name]
    documented = signatures(table("artifacts.md", "signature"))
    takes = signature.structured_input_signature[1]
    inputs, outputs = documented[name]
    stated = typed(documented["user_tower"][0]) | typed(inputs)
    assert {key: stated[key] for key in takes if key in stated} == {
        key: takes[key].dtype.name for key in takes if key in stated
    }
    assert names(inputs) - {"user_tower"} <= set(takes) and names(outputs) == set(signature.structured_outputs)


def test_raw_values_arrive_as_the_transform_expects_them():
    spec = tf.io.VarLenFeature(tf.string)
    assert raw_tensor_spec("tags", spec).shape.as_list() == [None, None]
    parsed = as_parsed(tf.constant([["", "a", "b"], ["", "", ""]]), spec)
    assert tf.sparse.to_dense(parsed).numpy().tolist() == [[b"a", b"b", b""], [b"", b"", b""]]
    numbers = as_parsed(tf.constant([[np.nan], [0.0]]), tf.io.VarLenFeature(tf.float32))
    assert numbers.indices.numpy().tolist() == [[1, 0]] and numbers.values.numpy().tolist() == [0.0]
    times = as_parsed(tf.constant([[-1], [0]], tf.int64), tf.io.VarLenFeature(tf.int64))
    assert times.indices.numpy().tolist() == [[1, 0]]
    assert as_parsed(tf.constant(["x"]), tf.io.FixedLenFeature([], tf.string)).numpy().tolist() == [b"x"]
