"""What a stock TensorFlow Serving must know to load the exact answer: TensorFlow's own ops and no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from serving.export import saved_model
from serving.export.stock_ops import LOADING, ops_by_signature
from tests.serving.tiny import recommender, save_model

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Paths of the exact and the ScaNN answer over one tiny model."""
    folder = tmp_path_factory.mktemp("saved")
    model = tf.saved_model.load(save_model(folder / "towers"))
    paths = {}
    for kind in ("exact", "scann"):
        paths[kind] = str(folder / kind)
        saved_model.save(recommender(model, kind), paths[kind])
    return paths


def checked(path: str) -> subprocess.CompletedProcess:
    """`python -m serving.export.stock_ops` in a process that has imported nothing else."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-m", "serving.export.stock_ops", path]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_exact_answer_needs_tensorflows_own_ops_alone(saved):
    done = checked(saved["exact"])
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("| `recommend` |")]
    assert "AddV2" in row and "MatMul" in row


def test_an_op_of_another_library_is_named_with_its_signature(saved):
    done = checked(saved["scann"])
    assert done.returncode == 1
    assert "recommend: not TensorFlow's own: Scann>ScannSearchBatched" in done.stderr
    assert not re.search("^encode_user: ", done.stderr, re.MULTILINE)


def test_the_documentation_lists_every_op_that_the_exact_answer_needs(saved):
    """Its list was made from the demo's model; a tiny one must not need more."""
    listed = set(
        re.findall(
            r"\w+", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").partition("<!-- stock ops -->")[2]
        )
    )
    for signature, ops in ops_by_signature(saved["exact"]).items():
        assert not ops - listed, f"{signature}: make the table anew: python -m serving.export.stock_ops PATH"


def test_a_signature_has_the_ops_of_the_functions_it_calls_and_no_others(tmp_path):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
        def loop(self, x):
            return {"y": tf.while_loop(lambda v: v < 10, lambda v: v + tf.atan(v), [x])[0]}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
        def sine(self, x):
            return {"y": tf.sin(x)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path), signatures={"loop": model.loop, "sine": model.sine})
    ops = ops_by_signature(str(tmp_path))
    assert "Atan" in ops["loop"] and "Sin" not in ops["loop"]
    assert "Sin" in ops["sine"] and "Atan" not in ops["sine"]
    assert "RestoreV2" in ops[LOADING]
