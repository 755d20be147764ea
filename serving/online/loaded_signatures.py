"""Some signatures of a loaded SavedModel, with the state that they read and without everything else that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from serving.index import Untracked


class LoadedSignatures(tf.Module):
    """Callable signatures; saved with a model, they bring the variables and tables that they capture, not the whole
    they were loaded from.

    loaded: a SavedModel as `tf.saved_model.load` gives it.
    names: of the signatures.
    """

    def __init__(self, loaded: Any, names: Sequence[str]):
        super().__init__()
        functions = {name: loaded.signatures[name] for name in names}
        captured = {id(handle) for function in functions.values() for handle in function.captured_inputs}
        self._held = Untracked((loaded, functions))
        self._state = [
            node for node in tf.train.TrackableView(loaded).descendants() if id(_handle_of(node)) in captured
        ]

    def __getitem__(self, name: str) -> Any:
        """The concrete function of a signature."""
        return self._held.value[1][name]

    def call(self, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of a signature."""
        return self[name](**inputs)


def _handle_of(node: Any) -> Any:
    """The tensor by which a function captures a variable or a table."""
    return node.handle if isinstance(node, tf.Variable) else getattr(node, "resource_handle", None)
