"""SavedModels that are read by several parts of a run, loaded once in a process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import tensorflow as tf

from components.file_state import size_and_mtime

_KEPT = 2  # models: a run's own, and the last blessed one that it is compared with


def load_once(path: str) -> Any:
    """The SavedModel at `path`, as `tf.saved_model.load` gives it; the same object until its files change.

    For readers of its signatures: who changes what was loaded changes it for all.
    """
    return _load(path, size_and_mtime(f"{path}/saved_model.pb"))


@lru_cache(_KEPT)
def _load(path: str, state: tuple[int, int]) -> Any:
    return tf.saved_model.load(path)
