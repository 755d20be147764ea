"""Two workers on two hosts, which are two network namespaces with a cable between them, and what a lost one does."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainer.workers import STEADY, WAYS, assert_same_models, start, tf_config
from trainer.config.engine import EngineConfig
from trainer.retrieval.run import run_fn

PORT = 2222
ADDRESSES = ("10.77.0.1", "10.77.0.2")
CABLE = "cable"  # the network interface at either end
NUMBERS = itertools.count()
CUT_AFTER = 15  # steps, of 12 an epoch
SLOW_S = 300  # for what takes seconds


def ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _has_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"zhiyin-{os.getpid()}-look"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode == 0
    return made and subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not _has_namespaces(), reason="needs root and `ip netns` of iproute2")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two network namespaces with an address each, between which there is nothing but a cable."""
    number = next(NUMBERS)
    names = [f"zhiyin-{os.getpid()}-{number}-{end}" for end in range(2)]
    for name in names:
        ip("netns", "add", name)
    try:
        one, other = names
        ip("link", "add", CABLE, "netns", one, "type", "veth", "peer", "name", CABLE, "netns", other)
        for name, address in zip(names, ADDRESSES):
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", CABLE, "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


class Cluster:
    """The same training on both hosts, over a folder that both see."""

    def __init__(self, folder: Path, hosts: list[str], arguments: Callable[[Path, str], dict]):
        self.folder, self._hosts, self._arguments = folder, hosts, arguments
        self._started: list[subprocess.Popen] = []

    def start(self, attempt: str) -> list[subprocess.Popen]:
        """Both workers; their outputs and logs are named by the attempt and the host's number."""
        addresses = [f"{address}:{PORT}" for address in ADDRESSES]
        workers = [
            start(
                self.folder,
                f"{attempt}-{index}",
                self._arguments(self.folder, f"{attempt}-{index}"),
                ("ip", "netns", "exec", host),
                TF_CONFIG=tf_config(addresses, index),
            )
            for index, host in enumerate(self._hosts)
        ]
        self._started += workers
        return workers

    def stop(self) -> None:
        """kill -9 for what still runs."""
        for worker in self._started:
            worker.kill()
            worker.wait()

    def log(self, attempt: str, index: int) -> str:
        return (self.folder / f"{attempt}-{index}.log").read_text()

    def end_of(self, attempt: str, workers: list[subprocess.Popen]) -> list[int]:
        """The exit codes of all of them."""
        try:
            return [worker.wait(timeout=SLOW_S) for worker in workers]
        except subprocess.TimeoutExpired:
            logs = "\n".join(self.log(attempt, index)[-2000:] for index in range(2))
            raise AssertionError(f"a worker waits for ever:\n{logs}") from None

    def wait_for_step(self, number: int, workers: list[subprocess.Popen]) -> None:
        """Returns when so many checkpoints were written, one a step."""
        until = time.monotonic() + SLOW_S
        while max((int(path.stem[5:]) for path in self.folder.glob("kept/*/ckpt-*.index")), default=0) < number:
            assert all(worker.poll() is None for worker in workers) and time.monotonic() < until, self.log("cut", 0)
            time.sleep(0.01)


@pytest.fixture(scope="module")
def arguments(run_arguments, tiny):
    """`arguments(folder, name)`: of the training whose outputs go to that name in the folder."""
    longer = STEADY | {"epochs": 4, "patience": 4, "batch_size": 2}
    config = dataclasses.replace(tiny.CONFIG, **longer, **WAYS["profile"])
    engine = EngineConfig(checkpoint_every_s=0)
    return lambda folder, name: run_arguments(folder / name, folder / "kept", config, engine)


@pytest.fixture
def cluster(tmp_path, hosts, arguments) -> Iterator[Cluster]:
    made = Cluster(tmp_path, hosts, arguments)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def alone(arguments, tmp_path_factory) -> Path:
    """The model that one host makes."""
    folder = tmp_path_factory.mktemp("alone")
    run_fn(types.SimpleNamespace(**arguments(folder, "one")))
    return folder / "one" / "model"


@needs_namespaces
@pytest.mark.slow
def test_two_hosts_export_what_one_does(cluster, alone):
    assert cluster.end_of("two", cluster.start("two")) == [0, 0], cluster.log("two", 0)[-2000:]
    assert_same_models(cluster.folder / "two-0" / "model", alone)
    assert not (cluster.folder / "two-1").exists()


@needs_namespaces
@pytest.mark.slow
def test_a_cut_cable_ends_both_and_both_go_on_from_the_last_checkpoint(cluster, hosts, alone):
    workers = cluster.start("cut")
    cluster.wait_for_step(CUT_AFTER, workers)
    ip("-n", hosts[1], "link", "set", CABLE, "down")
    assert cluster.end_of("cut", workers) == [1, 1]
    for index in range(2):
        assert "RuntimeError: lost another worker of TF_CONFIG; start all" in cluster.log("cut", index)
    assert not (cluster.folder / "cut-0" / "model").exists()

    ip("-n", hosts[1], "link", "set", CABLE, "up")
    assert cluster.end_of("again", cluster.start("again")) == [0, 0], cluster.log("again", 0)[-2000:]
    assert all("resuming from epoch 2, step" in cluster.log("again", index) for index in range(2))
    assert_same_models(cluster.folder / "again-0" / "model", alone)
    assert not (cluster.folder / "kept").exists()


@needs_namespaces
@pytest.mark.slow
def test_a_killed_worker_ends_the_other(cluster):
    chief, other = cluster.start("cut")
    cluster.wait_for_step(CUT_AFTER, [chief, other])
    other.kill()
    assert cluster.end_of("cut", [chief, other]) == [1, -9]
    assert "RuntimeError: lost another worker of TF_CONFIG; start all" in cluster.log("cut", 0)
