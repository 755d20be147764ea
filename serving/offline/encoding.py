"""Vectors of users and items by a trained model's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.datasets.interactions import Interactions, window
from components.datasets.items import encode_item_batches

_USERS_AT_ONCE = 256


def encode_users(
    user_tower: Any, vectors: np.ndarray, interactions: Interactions, stops: np.ndarray, history_length: int
) -> np.ndarray:
    """The vectors of users as they stood before interaction `stops` of each, asking at the time of that interaction.

    user_tower: the model's signature. vectors: float32 [num_items, dim]. stops: int64 [num_users], 0 to the number of
    interactions. history_length: of a longer history the most recent interactions count. Returns float32 [num_users,
    dim].
    """
    encoded = [np.zeros((0, vectors.shape[1]), np.float32)]
    for start in range(0, len(interactions), _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(interactions)))
        history = window(interactions, users, stops[users], history_length)
        vector = user_tower(
            user_id=tf.constant([interactions.user_ids[user] for user in users]),
            history_vectors=tf.constant(vectors[history.items] * history.is_there[:, :, None], tf.float32),
            history_events=tf.constant(interactions.event_texts(history.events).astype(str)),
            history_age_s=tf.constant(history.age_s),
        )["vector"]
        encoded.append(vector.numpy())
    return np.concatenate(encoded)


def sampled_user_vectors(
    user_tower: Any, vectors: np.ndarray, interactions: Interactions, history_length: int, count: int
) -> np.ndarray:
    """The vectors of up to `count` users with a history, spread evenly over all: queries to measure an index by.

    Arguments as of `encode_users`. Returns float32 [count or fewer, dim].
    """
    rows = np.flatnonzero(interactions.lengths > 0)
    if len(rows):
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
    return encode_users(user_tower, vectors, interactions.select(rows), interactions.lengths[rows], history_length)


def encode_items(encode_item: Any, pattern: str, item_ids: Sequence[str]) -> np.ndarray:
    """The vectors of item examples: float32 [num_items, dim].

    encode_item: the model's signature. pattern: TFRecord files or a folder. item_ids: of the rows.
    """
    vectors: dict[bytes, np.ndarray] = {}
    for ids, inputs in encode_item_batches(encode_item, pattern):
        vectors |= dict(zip(ids, encode_item(**inputs)["vector"].numpy()))
    return np.stack([vectors[item_id.encode()] for item_id in item_ids])
