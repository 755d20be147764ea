"""Seconds and processor seconds of what a user starts: the demo, the demo again, a list, an explanation, a server's
first answer.

With `--before PATH_OF_A_CHECKOUT` each command runs on that checkout's code beside this one's, in turn, both in this
interpreter and in folders of their own, so that neither checkout is written to. Medians of 3; about an hour for a pair
on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.goals import check_cases
from components.settings import SettingsError

ROOT = Path(__file__).resolve().parents[1]
RUNS = 3
OURS, BEFORE = "ours", "before"
SHARES = {"demo": (0.35, 0.30), "demo_again": (0.33, 0.33), "recommend": (0.33, 0.33), "explain": (0.33, 0.33),
          "serve": (0.33, 0.33)}  # fmt: skip  # of processor seconds and of seconds, that the goals allow
GOALS: list[dict[str, Any]] = [
    {"case": case, "metric": metric, "at_most": share, "of": BEFORE}
    for case, shares in SHARES.items()
    for metric, share in zip(("cpu_seconds", "seconds"), shares)
]
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import runpy; " + (
    "runpy.run_module('pipeline.cli', run_name='__main__', alter_sys=True)"
)
_POLL_S = 0.05
_START_S = 600.0  # for a server to answer


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    cpu_seconds: float  # of the process and of all children that it waited for


@dataclass(frozen=True)
class Checkout:
    """Code that is measured, and the folder that its commands run in."""

    code: Path
    folder: Path

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command of `./zhiyin`; what it prints goes to a file in the folder."""
        environment = {**os.environ, "PYTHONPATH": str(self.code), "TF_USE_LEGACY_KERAS": "1"}
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-I", "-c", _START, str(self.code), *command],
                cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def run(self, *command: str) -> Cost:
        """Run a command to its end. Raises RuntimeError with the last line that it said where it fails."""
        started, process = time.monotonic(), self.start(*command)
        return self.ended(process, started, command)

    def ended(self, process: subprocess.Popen, started: float, command: Sequence[str]) -> Cost:
        """Wait for a process and take its cost."""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if process.returncode not in (0, -signal.SIGTERM):
            lines = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"{' '.join(command)} in {self.code}: {lines[-1] if lines else process.returncode}")
        return Cost(seconds, usage.ru_utime + usage.ru_stime)

    def demo(self) -> Cost:
        """The demo from nothing: its world is made too."""
        for name in ("data", "runs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.run("demo")

    def serve(self) -> Cost:
        """A server from its start to its first list; its processor seconds are those until then and of its end."""
        port = _free_port()
        command = ("serve", "--port=0", f"--rest_api_port={port}")
        started, process = time.monotonic(), self.start(*command)
        try:
            _first_answer(port, process)
            answered = time.monotonic() - started
        finally:
            process.terminate()  # a shell in the background has SIGINT ignored
            cost = self.ended(process, started, command)
        return cost._replace(seconds=answered)


CASES: dict[str, Callable[[Checkout], Cost]] = {
    "demo": Checkout.demo,
    "demo_again": lambda checkout: checkout.run("demo"),
    "recommend": lambda checkout: checkout.run("recommend", "--user", "u0007"),
    "explain": lambda checkout: checkout.run("explain", "--user", "u0007", "--item", "i0042"),
    "serve": Checkout.serve,
}


def run(data_dir: Path | None, cases: Sequence[str] = (), before: Path | None = None) -> list[dict[str, Any]]:
    """Rows of every command on this code and, where a checkout is named, on that.

    data_dir: ignored. cases: some of CASES; those that read a run make one first where the demo is not among them.
    before: the root of a checkout of an earlier commit.
    Raises SettingsError for an unknown case or a folder that is no checkout.
    """
    check_cases(cases, CASES)
    if before is not None and not (before / "pipeline" / "cli.py").is_file():
        raise SettingsError(f"--before: {before} is no checkout of this project")
    rows = []
    with tempfile.TemporaryDirectory(prefix="zhiyin-speed-") as folder:
        codes = {BEFORE: before.resolve(), OURS: ROOT} if before else {OURS: ROOT}
        checkouts = {name: Checkout(code, Path(folder, name)) for name, code in codes.items()}
        for checkout in checkouts.values():
            checkout.folder.mkdir()
            if cases and "demo" not in cases:
                checkout.demo()
        for case in [case for case in CASES if not cases or case in cases]:
            costs: dict[str, list[Cost]] = {name: [] for name in checkouts}
            for _ in range(RUNS):  # in turn, so that what else the machine does meets both
                for name, checkout in checkouts.items():
                    costs[name].append(CASES[case](checkout))
            rows += [row for name, found in costs.items() for row in _rows(case, name, found)]
    return rows


def _rows(case: str, contender: str, costs: Sequence[Cost]) -> list[dict[str, Any]]:
    return [
        {
            "case": case,
            "contender": contender,
            "metric": metric,
            "value": round(statistics.median(values), 2),
            "low": round(min(values), 2),
            "high": round(max(values), 2),
            "runs": len(values),
        }
        for metric, values in ((name, [getattr(cost, name) for cost in costs]) for name in reversed(Cost._fields))
    ]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _first_answer(port: int, process: subprocess.Popen) -> None:
    """Ask for a list until there is one. Raises RuntimeError where the server ends or does not answer in time."""
    body = {"signature_name": "recommend_user", "inputs": {"user_id": ["u0007"], "k": [10]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/demo:predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _START_S
    while time.monotonic() < until and not _has_ended(process):
        try:
            with opener.open(request, timeout=_START_S) as answer:
                if json.loads(answer.read())["outputs"]["count"]:
                    return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(_POLL_S)  # not there yet
    raise RuntimeError("the server did not answer")


def _has_ended(process: subprocess.Popen) -> bool:
    """Whether a process is gone; its cost can still be asked for."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
