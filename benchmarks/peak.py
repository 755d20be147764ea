"""The peak memory of a process, its own: what getrusage gives a new process is never below its parent's."""

from pathlib import Path


def peak_mb() -> float:
    """Of this process since it was started, MB. Linux."""
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024
