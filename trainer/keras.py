"""TensorFlow with Keras 2, set up once a process: every module of this room imports `tf` from here.

Keras 2 must be chosen before anything touches `tf.keras` (docs/decisions/0002-keras-2.md). AutoGraph is told to leave
the code of Keras and of our rooms alone: none of it branches on tensors by Python's own statements, and converting it
takes two fifths of the time of tracing. (TensorFlow's list of exceptions names `keras` but not `tf_keras`.)
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf  # noqa: E402  (the variable must stand first)
import tf_keras  # noqa: E402
from tensorflow.python.autograph.core import config as autograph  # noqa: E402
from tensorflow.python.autograph.core import config_lib  # noqa: E402

if os.environ["TF_USE_LEGACY_KERAS"] != "1" or tf.keras.Model is not tf_keras.Model:
    raise RuntimeError(
        "tf.keras is Keras 3 in this process; set TF_USE_LEGACY_KERAS=1 in the environment before Python starts"
    )

# Dropout draws from generators whose state a checkpoint can hold.
tf.keras.backend.experimental.enable_tf_random_generator()

_LEAVE_ALONE = ("tf_keras", "keras_nlp", "components", "trainer", "serving")
_known = {rule._prefix for rule in autograph.CONVERSION_RULES}
autograph.CONVERSION_RULES = tuple(
    config_lib.DoNotConvert(name) for name in _LEAVE_ALONE if name not in _known
) + tuple(autograph.CONVERSION_RULES)

__all__ = ["tf"]
