"""What is exported answers anywhere as it did here, and says so when it cannot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.export import replay, saved_model
from serving.online.recommender import RecommenderModel
from tests.documented import names, signatures, table, typed
from tests.serving import tiny

SIGNATURES = {
    "serving_default",
    "recommend",
    "recommend_user",
    "similar",
    "explain",
    "add_items",
    "withdraw_items",
    "encode_user",
    "encode_item",
}
CHANGING = {"add_items", "withdraw_items"}  # nothing of them is recorded: warm-up would change the answer
RAW_ITEMS = {"item_id": tf.constant(["x", "y"]), "numeric": tf.constant([[1.0, 2, 3, 4], [0, 0, 2, 0]])}


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """kind -> path of both SavedModels."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {kind: str(folder / kind) for kind in ("exact", "scann")}
    recommenders = {path: tiny.recommender(model, kind) for kind, path in paths.items()}
    counts = saved_model.export_servables(recommenders, ["known", "other"], ["i0", "i7", "i29"], RAW_ITEMS)
    assert counts == dict.fromkeys(paths.values(), 2 * len(SIGNATURES - CHANGING))
    return paths


@pytest.fixture(scope="module")
def loaded(exported):
    """kind -> what is read back; no test changes it."""
    return {kind: saved_model.load(path) for kind, path in exported.items()}


@pytest.mark.parametrize("kind", ["exact", "scann"])
class TestExport:
    def test_signatures_and_names(self, loaded, kind):
        assert set(loaded[kind].signatures) == SIGNATURES
        recommend = loaded[kind].signatures["serving_default"]
        inputs = recommend.structured_input_signature[1]
        assert set(inputs) == set(tiny.request())
        outputs = {"item_ids", "scores", "count", "fallback", "probabilities", "reasons", "widened"}
        assert set(recommend.structured_outputs) == outputs
        for spec in [*inputs.values(), *recommend.structured_outputs.values()]:
            assert spec.shape.rank and spec.shape[0] is None, "batch first, and of any size"

    def test_the_documented_names_and_types_are_the_exported_ones(self, loaded, kind):
        documented = signatures(table("artifacts.md", "signature"))
        rules = typed(documented["recommend"][0])
        assert {"recommend", "recommend_user", "similar", "explain", "encode_user"} <= set(documented)
        told = ("recommend", "serving_default", "recommend_user", "similar", "explain", "encode_user")
        for name in (*told, "add_items", "withdraw_items"):
            takes = loaded[kind].signatures[name].structured_input_signature[1]
            gives = loaded[kind].signatures[name].structured_outputs
            inputs, outputs = documented[name]
            assert names(inputs) - {"recommend"} == set(takes), name
            assert names(outputs) == set(gives), name
            for text, specs in ((inputs, takes), (outputs, gives)):
                stated = {**(rules if specs is takes else {}), **typed(text)}
                assert {key: stated[key] for key in stated if key in specs} == {
                    key: specs[key].dtype.name for key in stated if key in specs
                }, name

    def test_vocabularies_are_assets(self, exported, kind):
        """C27: the ids that clients send are files of the SavedModel."""
        lines = Path(exported[kind], "assets", "item_ids.txt").read_text().splitlines()
        assert lines[1:] == [f"i{row}" for row in range(30)]
        assert Path(exported[kind], "assets", "user_ids.txt").read_text().splitlines()[1:] == ["known", "other"]

    def test_warm_up_covers_every_signature(self, exported, kind):
        assert {
            request.model_spec.signature_name for request, _ in replay.recorded(exported[kind])
        } == SIGNATURES - CHANGING

    def test_loaded_errors_name_k(self, loaded, kind):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            loaded[kind].signatures["recommend_user"](user_id=tf.constant(["known"]), k=tf.constant([0]))
        assert "k must be at least 1" in error.value.message[:1024], (
            "the part of a message that TensorFlow Serving sends"
        )

    def test_no_python_ops(self, exported, kind):
        """C26."""
        ops = saved_model.ops_of(exported[kind])
        assert not {op for op in ops if "PyFunc" in op} and "MatMul" in ops
        assert any(op.startswith("Scann>") for op in ops) == (kind == "scann")


def test_branches_and_loops_stay_calls_of_functions(exported):
    """TensorFlow does not spread them out into the graph around them, where each run visits the ops of every branch."""
    for path in exported.values():
        model = saved_model_pb2.SavedModel.FromString(Path(path, "saved_model.pb").read_bytes())
        functions = model.meta_graphs[0].graph_def.library.function
        nodes = [node for function in functions for node in function.node_def]
        steered = [node for node in nodes if node.op in {"If", "StatelessIf", "While", "StatelessWhile"}]
        assert steered and not any(node.attr["_lower_using_switch_merge"].b for node in steered)


def test_both_kinds_answer_alike(loaded):
    page = tiny.request(("known", "new", "x"), ((), (), ("i4", "i5")), exclude=((), (), ()), k=(9, 9, 9))
    left, right = (loaded[kind].signatures["recommend"](**page) for kind in ("exact", "scann"))
    np.testing.assert_array_equal(left["item_ids"], right["item_ids"])
    np.testing.assert_allclose(left["scores"], right["scores"], atol=1e-6)


@pytest.mark.slow
def test_without_scann(exported):
    """C37: the exact one answers where scann cannot be imported; the other says in one line what is missing."""
    code = (
        "import sys; sys.modules['scann'] = None\n"
        "import tensorflow as tf\n"
        "from serving.export import saved_model\n"
        "loaded = saved_model.load(sys.argv[1])\n"
        "answer = loaded.signatures['recommend_user'](user_id=tf.constant(['known']), k=tf.constant([3]))\n"
        "print(answer['count'].numpy().tolist())\n"
        "try:\n    saved_model.load(sys.argv[2])\n"
        "except saved_model.MissingPackageError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, exported["exact"], exported["scann"]]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert lines[0] == "[3]" and len(lines) == 2
    assert "needs the package scann" in lines[1] and "exact export" in lines[1]


def test_a_different_answer_is_refused(exported, loaded, model):
    """Another model's answers are not the recorded ones."""
    other = tiny.recommender(model, seed=1)
    with pytest.raises(replay.ReplayError, match="recommend, output|serving_default, output"):
        replay.compare(exported["exact"], replay.in_process(other.signatures()))

    def slightly_off(signature, inputs):
        answer = replay.in_process(loaded["exact"].signatures)(signature, inputs)
        return {name: value + np.float32(1e-3) if name == "scores" else value for name, value in answer.items()}

    with pytest.raises(replay.ReplayError, match="scores: differs from the recorded answer by 0.001"):
        replay.compare(exported["exact"], slightly_off)


def test_python_ops_are_refused(tmp_path, model):
    class Bad(RecommenderModel):
        def signatures(self):
            spec = tf.TensorSpec([None], tf.float32)
            bad = tf.function(lambda x: {"y": tf.py_function(lambda v: v, [x], tf.float32)}).get_concrete_function(
                x=spec
            )
            return super().signatures() | {"bad": bad}

    small = tiny.recommender(model, num_items=5, rows={})
    small.__class__ = Bad
    with pytest.raises(saved_model.ExportError, match="EagerPyFunc"):
        saved_model.export_servables({str(tmp_path / "bad"): small}, [], ["i0"], RAW_ITEMS)
