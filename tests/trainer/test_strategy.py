"""Several replicas take the steps that one takes: on logical devices, and as two processes over the loopback."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components import settings
from trainer.config.encoder import EncoderConfig
from trainer.config.engine import EngineConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.strategy import agreed, global_sum, is_chief, strategy_for

ROOT = Path(__file__).parents[2]
STEADY = {  # nothing is drawn at random while training, so that equal means equal
    "modalities": ("tags", "embedding_given"),
    "encoder": EncoderConfig(width=8, heads=2, layers=0, dropout=0.0),
    "history_dropout": 0.0,
    "modality_dropout": 0.0,
    "dropout": 0.0,
    "epochs": 3,
    "patience": 3,
    "batch_size": 10,
}
WAYS = {
    "profile": {"user_tower": "profile", "loss": "profile_cosine", "svd_init": False},
    "sequence": {"user_tower": "sequence", "loss": "full_softmax", "targets_per_step": 4096},
}


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


@pytest.mark.parametrize("way", ["profile", pytest.param("sequence", marks=pytest.mark.slow)])
def test_three_replicas_learn_what_one_does(item_file, sequence_files, tiny, tmp_path, way):
    """24 users in batches of 10 among 3 replicas: parts of unequal size."""
    ItemTable.build(item_file, tiny.DATA, tmp_path / "table")
    config = dataclasses.replace(tiny.CONFIG, **STEADY, **WAYS[way])
    arguments = {
        "data": settings.to_json(tiny.DATA),
        "retrieval": settings.to_json(config),
        "table": str(tmp_path / "table"),
        **sequence_files,
    }
    learned = {}
    for devices in (1, 3):
        output = tmp_path / f"{devices}.npz"
        command = [
            sys.executable,
            "-W",
            "ignore",
            str(Path(__file__).with_name("replicas.py")),
            json.dumps(arguments),
            str(devices),
            str(output),
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(PYTHONPATH=str(ROOT)), timeout=180, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        learned[devices] = np.load(output)
    assert (str(learned[1]["kind"]), int(learned[1]["replicas"])) == ("OneDeviceStrategy", 1)
    assert (str(learned[3]["kind"]), int(learned[3]["replicas"])) == ("MirroredStrategy", 3)
    np.testing.assert_allclose(learned[3]["loss"], learned[1]["loss"], rtol=1e-4)
    np.testing.assert_allclose(learned[3]["vectors"], learned[1]["vectors"], atol=1e-3)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers_export_what_one_does(item_file, run_arguments, tiny, tmp_path):
    """Two processes with TF_CONFIG; the first one writes, the second leaves nothing."""
    config = dataclasses.replace(tiny.CONFIG, **STEADY, **WAYS["profile"])

    def start(name: str, **environment: str) -> subprocess.Popen:
        checkpoints = tmp_path / f"checkpoints-{name.split('-')[0]}"
        arguments = run_arguments(tmp_path / name, checkpoints, config, EngineConfig(checkpoint_every_s=0))
        (tmp_path / f"{name}.json").write_text(json.dumps(arguments))
        command = [sys.executable, "-W", "ignore", "-m", "trainer.retrieval.run", str(tmp_path / f"{name}.json")]
        with (tmp_path / f"{name}.log").open("w") as log:
            return subprocess.Popen(command, cwd=ROOT, env=_environment(**environment), stdout=log, stderr=log)

    cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(2)]}
    workers = [
        start(f"two-{index}", TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}))
        for index in range(2)
    ]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0], (tmp_path / "two-0.log").read_text()[-2000:]
    finally:
        for worker in workers:
            worker.kill()
    assert start("one").wait(timeout=180) == 0
    models = [tf.saved_model.load(str(tmp_path / name / "model")) for name in ("two-0", "one")]
    users = [
        model.signatures["user_tower"](
            user_id=tf.constant(["u"]),
            history_vectors=tf.constant(np.eye(8, dtype=np.float32)[None, :3]),
            history_events=tf.constant([["play", "like", "play"]]),
            history_age_s=tf.zeros([1, 3]),
        )["vector"].numpy()
        for model in models
    ]
    np.testing.assert_allclose(users[0], users[1], atol=1e-3)
    variables = [
        tf.train.load_checkpoint(str(tmp_path / name / "model" / "variables" / "variables"))
        for name in ("two-0", "one")
    ]
    for name, dtype in variables[0].get_variable_to_dtype_map().items():
        if dtype == tf.float32:
            np.testing.assert_allclose(
                variables[0].get_tensor(name), variables[1].get_tensor(name), atol=1e-3, err_msg=name
            )
    assert not (tmp_path / "two-1").exists()


def test_the_chief_is_the_only_one_or_named_or_first(monkeypatch):
    def chief(cluster, kind, index):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
        return is_chief()

    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert is_chief()
    assert chief({"worker": ["a:1", "b:1"]}, "worker", 0) and not chief({"worker": ["a:1", "b:1"]}, "worker", 1)
    assert chief({"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0) and not chief(
        {"chief": ["a:1"], "worker": ["b:1"]}, "worker", 0
    )
    assert chief({"chief": ["a:1"]}, "chief", 0)


def test_one_replica_sums_and_agrees_with_itself():
    with strategy_for(EngineConfig(device="cpu")).scope():
        assert agreed(0.1) == 0.1
        assert float(global_sum(tf.constant([1.0, 2.0]))) == 3


def test_devices_that_are_not_there_or_half_named_are_refused():
    with pytest.raises(ValueError, match="engine.device: got 'gpu'"):
        strategy_for(EngineConfig(device="gpu"))
    with pytest.raises(ValueError, match="a TPU needs both"):
        EngineConfig(device="tpu")
    with pytest.raises(ValueError, match="checkpoint_every_s"):
        EngineConfig(checkpoint_every_s=-1)
