"""How a node of this room calls a function of a later one: by its dotted path, at run time, as TFX's Trainer calls its run_fn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def function_at(path: str) -> Callable[..., Any]:
    """The function that a dotted path names.

    Raises ValueError where there is no such module or function.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ValueError(f"{path!r} does not name a function: {error}") from error
