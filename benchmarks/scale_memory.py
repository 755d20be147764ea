"""Watches a process and its children until they end: their memory together, and the stretches in which nothing ran."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_S = 1.0


@dataclass
class Watched:
    """What was seen."""

    peak_mb: float = 0.0  # largest proportional set size of all processes together, MB: a shared page counts once
    silent: list[tuple[float, float]] = field(default_factory=list)  # stretches without a look, seconds since 1970

    def lost_s(self, start_s: float = 0.0, end_s: float = float("inf")) -> float:
        """Seconds of a stretch of time in which the watch did not get to run, as on a suspended machine."""
        return sum(max(min(end, end_s) - max(start, start_s), 0.0) for start, end in self.silent)


def watched(process: subprocess.Popen, silent_after_s: float) -> Watched:
    """Look at a process and its children every second until it ends. Linux.

    silent_after_s: a longer pause between two looks is no time of the process: it was stopped like the watch.
    """
    seen, last_s = Watched(), time.time()
    while process.poll() is None:
        seen.peak_mb = max(seen.peak_mb, sum(map(_proportional_mb, _family(process.pid))))
        time.sleep(_EVERY_S)
        now_s = time.time()
        if now_s - last_s > silent_after_s:
            seen.silent.append((last_s, now_s))
        last_s = now_s
    return seen


def _family(pid: int) -> list[int]:
    """A process and all that it started, those that have ended meanwhile without their children."""
    children: list[str] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += (thread / "children").read_text("utf-8").split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _proportional_mb(pid: int) -> float:
    with suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8"), re.MULTILINE)
        return int(found[1]) / 1000 if found else 0.0
    return 0.0
