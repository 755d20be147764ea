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


def variables_tree(layers: Any, found: dict[int, Any] | None = None) -> Any:
    """A tree of modules with the names and the variables of a tree of layers, and nothing else of it.

    A checkpoint of the one can be read into the other. A SavedModel that tracks it holds no layer's calls.
    found: node by the identity of what it stands for, where several trees share variables.
    """
    found = {} if found is None else found
    if isinstance(layers, tf.Variable):
        return layers
    if id(layers) not in found:
        found[id(layers)] = node = tf.Module()
        for name, child in tf.train.TrackableView.children(layers).items():
            setattr(node, name, variables_tree(child, found))
    return found[id(layers)]


def _handle_of(node: Any) -> Any:
    """The tensor by which a function captures a variable or a table."""
    return node.handle if isinstance(node, tf.Variable) else getattr(node, "resource_handle", None)
