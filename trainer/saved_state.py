"""What a SavedModel must hold beside the graphs of its signatures: the variables and tables that these read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.keras import tf


def captured_state(owner: Any, functions: Iterable[Any]) -> list[Any]:
    """The objects below an owner that concrete functions capture, in the order in which TensorFlow finds them.

    A root that tracks these alone saves no layer: Keras would trace each layer's calls once more, for nobody.
    owner: a trackable object, from which all variables, tables and assets of the functions can be reached.
    """
    captured = {id(handle) for function in functions for handle in function.captured_inputs}
    return [node for node in tf.train.TrackableView(owner).descendants() if id(_handle_of(node)) in captured]


def _handle_of(node: Any) -> Any:
    """The tensor by which a function captures a variable or a table."""
    return node.handle if isinstance(node, tf.Variable) else getattr(node, "resource_handle", None)
