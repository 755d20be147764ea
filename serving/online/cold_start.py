"""Users of whom nothing is known: who they are, and how items are scored for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

_SAME = 1e-4  # vectors this close in every number are one; a batch rounds otherwise than a single request


def empty_user_embedding(user_tower: Any, dim: int) -> tf.Tensor:
    """The user tower's vector of no id and no history: float32 [1, dim]. user_tower: the model's signature."""
    nothing = {
        "user_id": tf.constant([""]),
        "history_vectors": tf.zeros([1, 1, dim]),
        "history_events": tf.constant([[""]]),
    }
    return user_tower(**nothing, history_age_s=tf.zeros([1, 1]))["vector"]


def is_cold_start(vectors, num_history, empty_user) -> tf.Tensor:
    """Who has no history and the vector of an empty user: the users table or an id embedding moves others away from
    there.

    vectors: float32 [num_users, dim]. num_history: int [num_users]. empty_user: float32 [1, dim]. Returns bool
    [num_users].
    """
    is_moved = tf.reduce_any(tf.abs(vectors - empty_user) > _SAME, 1)
    return (num_history == 0) & ~is_moved


def cold_start_scores(recent_popularity: np.ndarray, published_at_s: np.ndarray) -> np.ndarray:
    """Scores of items for users of whom nothing is known: by recent popularity, and among equals the newest first.

    recent_popularity: float [num_items], higher = taken more often lately.
    published_at_s: float64 [num_items], seconds since 1970, NaN where unknown: as the oldest.
    Returns float32 [num_items], finite, 1 for the first rank, 1/2 for the second and so on; equal items share a rank.
    """
    keys = np.stack([-np.asarray(recent_popularity, np.float64), -np.nan_to_num(published_at_s, nan=-np.inf)])
    _, rank = np.unique(keys, axis=1, return_inverse=True)
    return (1 / (1 + rank.ravel())).astype(np.float32)
