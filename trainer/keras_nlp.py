"""KerasNLP, imported without the line that its Keras Core prints on standard output."""

import contextlib
import io

from trainer.keras import tf  # Keras 2 must be chosen before

with contextlib.redirect_stdout(io.StringIO()):
    import keras_nlp

__all__ = ["keras_nlp", "tf"]
