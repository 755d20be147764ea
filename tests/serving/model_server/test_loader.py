"""Loading: custom ops, SavedModels of TF 1, inputs with defaults, and the memory of retired versions."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from serving.model_server import loader
from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import ModelSettings
from serving.model_server.errors import ServingError


def graph_with(op: str) -> MetaGraphDef:
    graph = MetaGraphDef()
    graph.graph_def.node.add(name="known", op="Identity")
    graph.graph_def.library.function.add().node_def.add(name="custom", op=op)
    return graph


def test_a_missing_package_is_named_in_one_line(monkeypatch):
    """Without scann, a graph with ScaNN's ops gives one clear line that names the package."""
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(ServingError) as failure:
        loader._import_op_packages(graph_with("Scann>NoSuchOp"))
    message = failure.value.message
    assert failure.value.code == StatusCode.FAILED_PRECONDITION
    assert "Scann>NoSuchOp" in message and "scann cannot be imported" in message and "\n" not in message


def test_packages_are_imported_only_for_graphs_that_need_them(monkeypatch):
    imported = []
    monkeypatch.setattr(loader.importlib, "import_module", imported.append)
    loader._import_op_packages(graph_with("MatMul"))
    assert imported == []
    with pytest.raises(ServingError, match="Scann>NoSuchOp"):
        loader._import_op_packages(graph_with("Scann>NoSuchOp"))
    assert imported[0] == "scann"


LOAD = """
import json, sys, numpy as np, tensorflow as tf
from serving.model_server.cancellation import CancellationToken
from serving.model_server.loader import load_model

for package, path, value in (("tensorflow_text", sys.argv[1], ["ﬁ"]), ("scann", sys.argv[2], np.eye(4)[:1])):
    assert package not in sys.modules
    signature = load_model("m", 1, path).signature("")
    assert package in sys.modules
    (dtype,) = signature.inputs.values()
    outputs = signature(dict.fromkeys(signature.inputs, tf.constant(value, dtype)), CancellationToken())
    (values,) = outputs.values()
    print(json.dumps(values.numpy().tolist(), default=bytes.decode))
"""


def save(path, function, *signature: tf.TensorSpec, **owned) -> None:
    """A SavedModel of one function, and what it owns."""
    module = tf.Module()
    for name, value in owned.items():
        setattr(module, name, value)
    module.function = tf.function(function, input_signature=signature)
    tf.saved_model.save(module, str(path), signatures=module.function)


@pytest.mark.slow
def test_custom_ops_load_in_a_process_that_has_not_imported_their_packages(tmp_path):
    """Neither TensorFlow Text nor ScaNN is there before the loader has seen the graph; both then answer."""
    import scann
    import tensorflow_text as text

    def folded(s):
        return {"folded": text.normalize_utf8(s, "NFKC")}

    def neighbours(q):
        return {"neighbours": scann.scann_ops.searcher_from_module(searcher).search_batched(q)[0]}

    vectors = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    builder = scann.scann_ops.builder(vectors, 3, "dot_product").score_brute_force()
    searcher = builder.build().serialize_to_module()
    save(tmp_path / "text", folded, tf.TensorSpec([None], tf.string, name="s"))
    save(tmp_path / "scann", neighbours, tf.TensorSpec([None, 4], tf.float32, name="q"), searcher=searcher)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(tmp_path / "text"), str(tmp_path / "scann")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    words, items = (json.loads(line) for line in done.stdout.strip().splitlines())
    assert words == ["fi"] and items == [np.argsort(-vectors[:, 0])[:3].tolist()]


def test_a_saved_model_of_tf_1_is_served(serving, tmp_path):
    base = tmp_path / "old"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        weight = tf.compat.v1.get_variable("w", initializer=3.0, use_resource=False)
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant([6], tf.int64), tf.constant([b"six"])), b"?"
        )
        product = x * weight
        session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()])
        definition = tf.compat.v1.saved_model.predict_signature_def(
            {"x": x}, {"z": product, "a": table.lookup(tf.cast(product, tf.int64))}
        )
        builder = tf.compat.v1.saved_model.Builder(str(base / "1"))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": definition},
            main_op=tf.compat.v1.tables_initializer(),
            strip_default_attrs=True,
        )
        builder.save()
    with serving(ModelSettings("old", str(base))) as client:
        outputs = client.predict({"x": np.array([2, 1], np.float32)}, model="old").outputs
        assert list(outputs["z"].float_val) == [6, 3] and list(outputs["a"].string_val) == [b"six", b"?"]


def test_an_input_with_a_default_may_be_left_out_over_grpc(serving, tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="k")])
    def scaled(x, k=tf.constant(10.0)):  # noqa: B008
        return {"y": x * k}

    module.scaled = scaled
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures=module.scaled)
    with serving(ModelSettings("m", str(tmp_path / "m"))) as client:
        assert client.predict({"x": np.float32(2)}, model="m").outputs["y"].float_val[0] == 20
        assert client.predict({"x": np.float32(2), "k": np.float32(3)}, model="m").outputs["y"].float_val[0] == 6
        code, message = client.code(client.predict, {"k": np.float32(3)}, model="m")
        assert code == StatusCode.INVALID_ARGUMENT and "'x'" in message


def test_the_models_memory_is_freed_when_it_goes(toy_path):
    model = loader.load_model("toy", 1, str(toy_path / "1"))
    signature = model.signature("")
    assert signature({"x": tf.constant([2.0])}, CancellationToken())["y"].numpy().tolist() == [1.0]
    variable = weakref.ref(model.root.offset)
    del model, signature
    gc.collect()
    assert variable() is None


def test_a_broken_graph_says_where_it_is(tmp_path):
    folder = tmp_path / "1"
    folder.mkdir()
    for content, code in [
        (None, StatusCode.NOT_FOUND),
        (b"nonsense", StatusCode.DATA_LOSS),
        (b"", StatusCode.NOT_FOUND),
    ]:
        if content is not None:
            (folder / "saved_model.pb").write_bytes(content)
        with pytest.raises(ServingError, match=str(folder)) as failure:
            loader.load_model("m", 1, str(folder))
        assert failure.value.code == code
