"""Measures the processor seconds and the peak memory of a stretch of this process, and gives back what is free."""

from __future__ import annotations

import ctypes
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow

_PROC = Path("/proc/self")
_RESET_PEAK = "5"  # what Linux takes at clear_refs to start VmHWM anew


@dataclass
class Usage:
    """What a stretch took; whole once it has ended."""

    processor_seconds: float = 0.0  # of all threads of this process, and of the children that ended meanwhile
    peak_memory_bytes: int = 0  # the largest resident set of this process meanwhile, children aside


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the block; its numbers stand in the object that is yielded once it has ended.

    Where the kernel cannot start the peak anew, the peak is that of the process since its start.
    """
    usage = Usage()
    with suppress(OSError):
        (_PROC / "clear_refs").write_text(_RESET_PEAK)
    before = _processor_seconds()
    try:
        yield usage
    finally:
        usage.processor_seconds = _processor_seconds() - before
        usage.peak_memory_bytes = _peak_bytes()


def give_back() -> None:
    """Let the system have the memory that is free in this process: the C library and Arrow keep it for what comes, and
    whatever comes in another way stands on it.
    """
    pyarrow.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # of another C library
        ctypes.CDLL(None).malloc_trim(0)


def _processor_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _peak_bytes() -> int:
    status = _PROC / "status"
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
