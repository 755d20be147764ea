"""Some signatures of a loaded SavedModel, with the state that they read and without everything else that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from serving.index import Untracked
from trainer.saved_state import captured_state


class LoadedSignatures(tf.Module):
    """Callable signatures; saved with a model, they bring the variables and tables that they capture, not the whole
    they were loaded from.

    loaded: a SavedModel as `tf.saved_model.load` gives it.
    names: of the signatures.
    """

    def __init__(self, loaded: Any, names: Sequence[str]):
        super().__init__()
        functions = {name: loaded.signatures[name] for name in names}
        self._held = Untracked((loaded, functions))
        self._state = captured_state(loaded, functions.values())

    def __getitem__(self, name: str) -> Any:
        """The concrete function of a signature."""
        return self._held.value[1][name]

    def call(self, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of a signature."""
        return self[name](**inputs)
