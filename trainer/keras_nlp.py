"""KerasNLP, imported where it is first used, and without the line that its Keras Core prints on standard output.

With its metrics it takes a second of processor time, which a model without Transformers need not spend.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import TYPE_CHECKING, Any

from trainer.keras import tf  # Keras 2 must be chosen before

if TYPE_CHECKING:
    import keras_nlp
else:

    class _WhereUsed:
        """Stands for the package, and imports it when something of it is asked for."""

        def __getattr__(self, name: str) -> Any:
            with contextlib.redirect_stdout(io.StringIO()):
                return getattr(importlib.import_module("keras_nlp"), name)

    keras_nlp = _WhereUsed()

__all__ = ["keras_nlp", "tf"]
