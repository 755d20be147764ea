"""Several replicas take the steps that one takes: on logical devices, and as two processes over the loopback."""

import dataclasses
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components import settings
from tests.trainer.draws import shares
from tests.trainer.workers import ROOT, STEADY, WAYS, assert_same_models, environment, start, tf_config
from trainer.config.engine import EngineConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.strategy import agreed, global_sum, is_chief, strategy_for


@pytest.mark.parametrize("way", ["profile", pytest.param("sequence", marks=pytest.mark.slow)])
def test_three_replicas_learn_what_one_does(item_file, sequence_files, tiny, tmp_path, way):
    """24 users in batches of 10 among 3 replicas: parts of unequal size."""
    config = dataclasses.replace(tiny.CONFIG, **STEADY, **WAYS[way])
    learned = {
        devices: _learned(devices, item_file, sequence_files, tiny, config, tmp_path / str(devices))
        for devices in (1, 3)
    }
    assert (str(learned[1]["kind"]), int(learned[1]["replicas"])) == ("OneDeviceStrategy", 1)
    assert (str(learned[3]["kind"]), int(learned[3]["replicas"])) == ("MirroredStrategy", 3)
    np.testing.assert_allclose(learned[3]["loss"], learned[1]["loss"], rtol=1e-4)
    np.testing.assert_allclose(learned[3]["vectors"], learned[1]["vectors"], atol=1e-3)


def test_two_replicas_correct_for_what_each_of_them_draws(item_file, sequence_files, tiny, tmp_path):
    """Nobody takes odd items, so they are drawn by chance alone: 30 of 60 negatives on either replica."""
    even = tiny.write_records(tmp_path / "even.gz", tiny.checkerboard_records()[::2])
    changes = {"loss": "softmax", "negatives": 60, "batch_size": 12, "epochs": 150, "patience": 150, "svd_init": False}
    config = dataclasses.replace(tiny.CONFIG, **STEADY | changes)
    learned = _learned(2, item_file, {**sequence_files, "train": even}, tiny, config, tmp_path)
    share, told = shares(learned["notes"][0])
    np.testing.assert_allclose(told, share, rtol=0.15)
    np.testing.assert_allclose(told[1::2], 30 / 12 / (30 + 30), rtol=1e-5)  # beside 5 targets of each of 6 users


def _learned(devices: int, item_file, sequence_files, tiny, config, folder: Path):
    """What replicas.py leaves of a training on so many logical devices."""
    ItemTable.build(item_file, tiny.DATA, folder / "table")
    arguments = {
        "data": settings.to_json(tiny.DATA),
        "retrieval": settings.to_json(config),
        "table": str(folder / "table"),
        **sequence_files,
    }
    output = folder / "learned.npz"
    program = str(Path(__file__).with_name("replicas.py"))
    command = [sys.executable, "-W", "ignore", program, json.dumps(arguments), str(devices), str(output)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), timeout=180, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(output)


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

    def started(name: str, **more: str) -> subprocess.Popen:
        checkpoints = tmp_path / f"checkpoints-{name.split('-')[0]}"
        arguments = run_arguments(tmp_path / name, checkpoints, config, EngineConfig(checkpoint_every_s=0))
        return start(tmp_path, name, arguments, **more)

    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    workers = [started(f"two-{index}", TF_CONFIG=tf_config(addresses, index)) for index in range(2)]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0], (tmp_path / "two-0.log").read_text()[-2000:]
    finally:
        for worker in workers:
            worker.kill()
    assert started("one").wait(timeout=180) == 0
    assert_same_models(tmp_path / "two-0" / "model", tmp_path / "one" / "model")
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
