"""Who is new: people without a history of whom the user tower knows nothing else either.

B people, D dimensions.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_SAME = 1e-4  # vectors this close in every number are one; a batch rounds otherwise than a single request


def vector_of_nobody(user_tower: Any, dim: int) -> tf.Tensor:
    """What the tower makes of no id and no history: float32 [1, D]. user_tower: the model's signature."""
    nothing = {
        "user_id": tf.constant([""]),
        "history_vectors": tf.zeros([1, 1, dim]),
        "history_events": tf.constant([[""]]),
    }
    return user_tower(**nothing, history_age_s=tf.zeros([1, 1]))["vector"]


def is_new(vectors, num_history, nobody) -> tf.Tensor:
    """bool [B]: no history, and a vector float32 [B, D] like nobody's. The users table or an id of their own moves it away from there.

    num_history: int [B]. nobody: float32 [1, D].
    """
    is_moved = tf.reduce_any(tf.abs(vectors - nobody) > _SAME, 1)
    return (num_history == 0) & ~is_moved
