"""Child processes that are kept running: started again when they end unasked, stopped together."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

STOP_S = 20.0  # for a child to end by itself
QUICK_S = 5.0  # a child that lived shorter is started again after a pause
MAX_PAUSE_S = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Child:
    """A command to be kept running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


class CannotStart(RuntimeError):
    """A child ended before it had answered once."""


class Supervisor:
    """Runs children until it is stopped."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = {child.name: child for child in children}
        self._running: dict[str, subprocess.Popen] = {}
        self._started: dict[str, float] = {}
        self._pause_s = dict.fromkeys(self._children, 0.0)
        self._stopping = threading.Event()

    def start(self, name: str) -> None:
        """Start one child."""
        child = self._children[name]
        self._started[name] = time.monotonic()
        self._running[name] = subprocess.Popen(
            child.command,
            env=child.environment,
            start_new_session=True,  # a terminal's Ctrl-C goes to us alone; we stop the children in order
            preexec_fn=_in_child,
        )

    def has_ended(self, name: str) -> bool:
        """Whether a child that was started is gone."""
        return self._running[name].poll() is not None

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._running[name].pid

    def run(self) -> None:
        """Start again what ends, until `stop`."""
        while not self._stopping.wait(0.2):
            for name in self._children:
                if name in self._running and self.has_ended(name):
                    self._again(name)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    def end(self) -> None:
        """End all children: asked first, then not."""
        self._stopping.set()
        for process in self._running.values():
            process.terminate()
        until = time.monotonic() + STOP_S
        for process in self._running.values():
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _again(self, name: str) -> None:
        lived_s = time.monotonic() - self._started[name]
        log.error("%s ended with exit code %s; it is started again", name, self._running[name].returncode)
        self._pause_s[name] = min(max(2 * self._pause_s[name], 0.5), MAX_PAUSE_S) if lived_s < QUICK_S else 0.0
        if not self._stopping.wait(self._pause_s[name]):
            self.start(name)


def end_with_parent() -> None:
    """Runs in a new child: the kernel ends it when we are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _in_child() -> None:
    end_with_parent()
    os.umask(0o077)
