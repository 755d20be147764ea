"""KerasNLP, imported where it is first used, and without the line that its Keras Core prints on standard output.

With its metrics it takes a second of processor time, which a model without Transformers need not spend.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO

from trainer.keras import tf  # Keras 2 must be chosen before

if TYPE_CHECKING:
    import keras_nlp
else:

    class _WhereUsed:
        """Stands for the package, and imports it when something of it is asked for."""

        def __getattr__(self, name: str) -> Any:
            return getattr(_imported(), name)

    keras_nlp = _WhereUsed()

__all__ = ["keras_nlp", "tf"]


class _WithoutThisThread(io.TextIOBase):
    """An output of all threads but the one that made it."""

    def __init__(self, output: TextIO):
        self._output, self._thread = output, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._output.write(text)

    def flush(self) -> None:
        self._output.flush()


@functools.cache
def _imported() -> ModuleType:
    with contextlib.redirect_stdout(_WithoutThisThread(sys.stdout)):
        return importlib.import_module("keras_nlp")
