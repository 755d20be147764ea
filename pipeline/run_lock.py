"""One run at a time in a work folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_run_at_a_time(work_path: Path) -> Iterator[None]:
    """Holds the work folder, which is made where there is none. Raises RuntimeError where another run does."""
    work_path.mkdir(parents=True, exist_ok=True)
    with (work_path / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"another run is using {work_path}; wait for it or give another work_dir") from error
        yield
