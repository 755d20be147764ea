"""Children are started again when they end, and end when they are told, or when we do."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from pipeline.commands.up import _wait
from pipeline.supervisor import Child, Supervisor

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(is_so):
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_whoever_waits_for_a_child_that_does_not_answer_is_let_go_when_all_is_to_stop():
    supervisor = Supervisor([Child("silent", SLEEP, os.environ)])
    supervisor.start("silent")
    with socket.socket() as unheard:  # bound, and nobody listens
        unheard.bind(("127.0.0.1", 0))
        threading.Timer(0.3, supervisor.stop).start()
        assert not _wait(supervisor, "silent", *unheard.getsockname())
    supervisor.end()


def test_a_child_that_is_killed_is_started_again_and_ended_in_the_end():
    supervisor = Supervisor([Child("one", SLEEP, os.environ), Child("two", SLEEP, os.environ)])
    supervisor.start("one")
    supervisor.start("two")
    running = threading.Thread(target=supervisor.run)
    running.start()
    first, other = supervisor.pid("one"), supervisor.pid("two")
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pid("one") != first)
    assert supervisor.pid("two") == other
    supervisor.stop()
    running.join()
    second = supervisor.pid("one")
    supervisor.end()
    assert not is_alive(second)
    assert not is_alive(other)


def test_children_end_with_a_parent_that_is_killed():
    code = (
        "import sys, os, time; from pipeline.supervisor import Child, Supervisor;"
        f"s = Supervisor([Child('c', {SLEEP!r}, os.environ)]); s.start('c');"
        "print(s.pid('c'), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    until(lambda: not is_alive(child))
    parent.stdout.close()
