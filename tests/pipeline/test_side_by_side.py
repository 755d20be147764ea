"""Steps side by side: in this process and in real forks of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import side_by_side, workflows
from pipeline.beam_engine import BeamConfig
from pipeline.config import PipelineEngineConfig
from pipeline.side_by_side import ForkFailed

PATIENCE_S = 60.0
AGES = """
import signal, sys, time
from pathlib import Path
from pipeline.side_by_side import forks

def work(step):
    import os
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started without
with forks(1, work, str) as (fork,):
    fork("long")
"""


def wait_for(is_true) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.02)


def done_by(needs, do, number=1) -> tuple[list[str], list[tuple[str, object]]]:
    """Steps as they started, and as they ended with their results."""
    started, ended = [], []
    with side_by_side.forks(number, do, str) as forks:
        side_by_side.run(needs, [do, *forks], started.append, lambda step, result: ended.append((step, result)))
    return started, ended


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text()


def test_two_steps_that_need_none_of_each_other_meet(tmp_path):
    """Each waits until the other has begun."""

    def do(step: str) -> int:
        (tmp_path / step).touch()
        if step != "last":
            wait_for((tmp_path / {"left": "right", "right": "left"}[step]).exists)
        return os.getpid()

    started, ended = done_by({"left": [], "right": [], "last": ["left", "right"]}, do)
    assert sorted(started[:2]) == ["left", "right"] and started[2] == "last"
    assert len({pid for step, pid in ended if step != "last"}) == 2


def test_a_step_waits_for_all_that_it_needs_whatever_lane_they_are_in():
    needs = {"a": [], "b": [], "c": ["a", "b"], "d": ["c"], "e": ["a"], "f": ["d", "e"]}
    started, ended = done_by(needs, lambda step: time.sleep(0.01), number=2)
    order = [step for step, _ in ended]
    assert sorted(order) == sorted(needs)
    assert all(order.index(need) < order.index(step) for step in needs for need in needs[step])


def test_without_a_fork_steps_are_done_in_the_order_that_is_given():
    started, ended = done_by({"b": [], "a": [], "c": ["b"]}, str.upper, number=0)
    assert started == ["b", "a", "c"] and ended == [("b", "B"), ("a", "A"), ("c", "C")]


@pytest.mark.parametrize("in_fork", [False, True])
def test_the_step_beside_one_that_fails_is_finished_and_none_begins_after(tmp_path, in_fork):
    main = os.getpid()

    def do(step: str) -> str:
        """One fails once the other has begun; that one goes on a little."""
        (tmp_path / step).touch()
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        if (os.getpid() != main) == in_fork:
            raise ValueError(f"{step} is broken")
        time.sleep(0.2)
        return step

    started, ended = [], []
    with (
        side_by_side.forks(1, do, lambda error: f"it says: {error}") as forks,
        pytest.raises((ValueError, ForkFailed), match=r"^(it says: )?\w is broken$") as raised,
    ):
        side_by_side.run({"a": [], "b": [], "c": []}, [do, *forks], started.append, lambda *end: ended.append(end))
    assert isinstance(raised.value, ForkFailed) == in_fork
    assert sorted(started) == ["a", "b"] and len(ended) == 1


def test_an_error_of_who_is_told_ends_the_run():
    def told(step: str, result: object) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        side_by_side.run({"a": [], "b": ["a"]}, [str.upper], lambda step: None, told)


def test_a_fork_that_is_killed_is_an_error_that_says_so():
    with side_by_side.forks(1, lambda step: os.kill(os.getpid(), signal.SIGKILL), str) as (fork,):
        with pytest.raises(ForkFailed, match=r"its process ended \(signal 9\); was there memory enough\?"):
            fork("step")
        with pytest.raises(ForkFailed, match="its process ended"):
            fork("another")


def test_a_fork_does_one_step_after_the_other_and_ends_with_the_block():
    with side_by_side.forks(1, lambda step: (step, os.getpid()), str) as (fork,):
        (first, pid), (second, same) = fork("a"), fork("b")
        assert (first, second) == ("a", "b") and pid == same != os.getpid()
    assert not is_alive(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_fork_ends_with_the_process_that_made_it(tmp_path, how):
    told = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", AGES, str(told)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: told.exists() and told.read_text())
        parent.send_signal(how)
        parent.wait(PATIENCE_S)
        wait_for(lambda: not is_alive(int(told.read_text())))
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize(
    ("settings", "processors", "of_several_machines", "expected"),
    [
        ({}, 4, False, 2),
        ({"nodes_at_once": 3}, 4, False, 3),
        ({"nodes_at_once": 1}, 4, False, 1),
        ({}, 1, False, 1),
        ({}, 4, True, 1),
        ({"device": "gpu"}, 4, False, 1),
        ({"device": "tpu", "tpu": "local"}, 4, False, 1),
        ({"beam": BeamConfig(runner="flink", job_server="jobs:8099")}, 4, False, 2),
        ({"beam": BeamConfig(runner="spark", job_server="jobs:8099")}, 4, False, 1),
    ],
)
def test_nodes_that_would_share_a_device_or_a_port_run_one_after_the_other(
    monkeypatch, settings, processors, of_several_machines, expected
):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if of_several_machines:
        monkeypatch.setenv("TF_CONFIG", "{}")
    assert workflows._nodes_at_once(PipelineEngineConfig(**{"device": "cpu", **settings})) == expected


def test_no_node_at_once_is_refused():
    with pytest.raises(ValueError, match="nodes_at_once: got 0, expected 1 or more"):
        PipelineEngineConfig(nodes_at_once=0)
