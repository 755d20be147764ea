"""Training that was killed goes on, to the very weights that it would have reached."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from trainer.checkpoints import Checkpoints, Progress, fingerprint
from trainer.config.encoder import EncoderConfig
from trainer.config.engine import EngineConfig
from trainer.keras import tf
from trainer.retrieval.run import build, run_fn
from trainer.retrieval.train import train

ROOT = Path(__file__).parents[2]
LEAN = {"modalities": ("tags", "embedding_given"), "encoder": EncoderConfig(width=8, heads=2, layers=0), "dropout": 0.1}
LONG = {"epochs": 4, "patience": 4, "batch_size": 2, "svd_init": False}  # 12 steps an epoch


class PowerCut(tf.keras.callbacks.Callback):
    """Ends a training in a way that it cannot foresee."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


WAYS = {
    "profile": {"user_tower": "profile", "loss": "profile_cosine"},
    "sequence": {"user_tower": "sequence", "loss": "full_softmax"},
    "sampled": {"user_tower": "profile", "loss": "softmax", "items_per_step": 8},
}


@pytest.mark.parametrize("way", WAYS)
def test_resumed_weights_are_those_of_an_unbroken_training(table, train_split, eval_split, tiny, tmp_path, capsys, way):
    """With dropout, the optimizer's moments, the order of the users and the early stopping; the history counts every
    epoch once.
    """
    config = dataclasses.replace(tiny.CONFIG, **LEAN, **LONG, **WAYS[way])

    def trained(**arguments):
        model = build(table, train_split, tiny.DATA, config)
        return model, train(model, train_split, eval_split, table, **arguments)

    unbroken, its_history = trained()
    checkpoints = lambda: Checkpoints(str(tmp_path), "a", 0.0)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoints=checkpoints(), callbacks=[PowerCut()])
    resumed, history = trained(checkpoints=checkpoints())
    assert (
        "resuming from epoch 3, step 12" in capsys.readouterr().err
    )  # the last save was before the validation of epoch 3
    assert history.history == its_history.history and len(history.epoch) == len(its_history.epoch)
    for expected, got in zip(unbroken.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(got, expected, atol=1e-7)


@pytest.fixture()
def arguments(run_arguments, tiny, tmp_path):
    """Those of run_fn, with outputs of their own for each attempt."""
    config = dataclasses.replace(tiny.CONFIG, **LEAN, **LONG)
    return lambda attempt, checkpoints: run_arguments(
        tmp_path / attempt, tmp_path / checkpoints, config, EngineConfig(checkpoint_every_s=0)
    )


def _weights(folder: Path) -> list[np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder / "model" / "variables" / "variables"))
    return [
        reader.get_tensor(name)
        for name in sorted(reader.get_variable_to_shape_map())
        if reader.get_variable_to_dtype_map()[name] == tf.float32
    ]


def test_kill_9_in_the_middle_of_an_epoch(arguments, tmp_path, capsys):
    """The process is killed after some step of the second epoch; another one takes over and leaves nothing behind."""
    (tmp_path / "arguments.json").write_text(json.dumps(arguments("killed", "kept")))
    command = [sys.executable, "-W", "ignore", "-m", "trainer.retrieval.run", str(tmp_path / "arguments.json")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while max((int(path.stem.removeprefix("ckpt-")) for path in tmp_path.glob("kept/*/ckpt-*.index")), default=0) < 15:
        assert process.poll() is None and time.monotonic() < deadline, "it never came as far"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model").exists()

    run_fn(types.SimpleNamespace(**arguments("resumed", "kept")))
    (line,) = (text for text in capsys.readouterr().err.splitlines() if "resuming" in text)
    assert line.startswith("resuming from epoch 2, step ")
    run_fn(types.SimpleNamespace(**arguments("unbroken", "others")))
    for expected, got in zip(_weights(tmp_path / "unbroken"), _weights(tmp_path / "resumed"), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    assert not (tmp_path / "kept").exists() and not (tmp_path / "others").exists()


def test_progress_survives_the_file(tmp_path):
    progress, other = Progress(), Progress()
    progress.epoch, progress.losses, progress.logs, progress.best_value = 7, [0.1, 1 / 3], [{"loss": 0.1}], 0.25
    progress.best_weights = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(2)]
    other.deserialize(progress.serialize())
    assert {**vars(other), "best_weights": 0} == {**vars(progress), "best_weights": 0}
    np.testing.assert_equal(other.best_weights, progress.best_weights)


def test_a_damaged_checkpoint_is_named_and_what_to_do(tmp_path):
    variable = tf.Variable(1.0)
    checkpoints = Checkpoints(str(tmp_path), "a", 0.0)
    assert not checkpoints.attach(Progress(), variable=variable)
    checkpoints.save()
    for path in tmp_path.glob("a/*.data-*"):
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RuntimeError, match="cannot be read; delete .*a to start over"):
        Checkpoints(str(tmp_path), "a", 0.0).attach(Progress(), variable=variable)


def test_other_inputs_other_settings_another_training(tmp_path):
    (tmp_path / "x").write_text("1")
    names = {fingerprint([str(tmp_path)], {"epochs": 3}, 1), fingerprint([str(tmp_path)], {"epochs": 4}, 1)}
    (tmp_path / "x").write_text("12")
    names.add(fingerprint([str(tmp_path)], {"epochs": 3}, 1))
    assert len(names) == 3 and fingerprint([str(tmp_path / "*")], {"epochs": 3}, 1) in names
