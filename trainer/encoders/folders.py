"""Local copies of model folders that lie anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.keras import tf


@contextmanager
def local_folder(path: str | Path) -> Iterator[str]:
    """The folder itself, or for an address like gs:// a copy of it that lasts as long as the context."""
    if "://" not in str(path):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as copy:
        root = str(path).rstrip("/")
        for folder, _, files in tf.io.gfile.walk(root):
            target = Path(copy) / folder.rstrip("/").removeprefix(root).strip("/")
            target.mkdir(parents=True, exist_ok=True)
            for name in files:
                tf.io.gfile.copy(tf.io.gfile.join(folder, name), str(target / name))
        yield copy
