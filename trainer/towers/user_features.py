"""User features beside the history: the declared columns of the users table, and the user's id.

U users with features, C categorical columns, K numeric columns, B users of a batch, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.config import DataConfig
from components.datasets.interactions import Interactions
from components.datasets.records import records
from trainer.config.retrieval import RetrievalConfig
from trainer.keras import tf

UNKNOWN_USER = 0  # row of a user without features
ABSENT, UNKNOWN, FIRST_CATEGORY = 0, 1, 2  # codes of a category
MIN_USERS = 5  # with fewer in the table a category is unknown
MIN_POSITIVES = 5  # with fewer positive interactions a user gets no id embedding


@dataclass(frozen=True)
class UserFeatures:
    """The users that have features, a row each, after the row UNKNOWN_USER."""

    user_ids: list[str]  # of the rows 1, 2, ...
    id_rows: np.ndarray  # int32 [1 + U], row of the user's id embedding; 0 = that of unknown users
    categories: np.ndarray  # int32 [1 + U, C]
    sizes: tuple[int, ...]  # of each category, ABSENT and UNKNOWN included
    numbers: np.ndarray  # float32 [1 + U, K], z-scores, 0 where absent
    present: np.ndarray  # float32 [1 + U, K], 0 or 1

    def rows_of(self, user_ids: Sequence[str]) -> np.ndarray:
        """Rows of some users, UNKNOWN_USER where they have no features: int32 [B]."""
        place = {user_id: row for row, user_id in enumerate(self.user_ids, 1)}
        return np.array([place.get(user_id, UNKNOWN_USER) for user_id in user_ids], np.int32)


def read_user_features(
    pattern: str | None, data: DataConfig, train_split: Interactions, config: RetrievalConfig
) -> UserFeatures | None:
    """Reads the features that the configuration gives to the user tower; None where there are none.

    pattern: examples of the users table; None where there is none.
    train_split: with `use_user_id`, users with enough positive interactions in it get an id embedding.
    """
    table: dict[str, tuple[list[bytes], list[float]]] = {}
    if config.use_user_features and pattern is not None:
        for record in records(pattern):
            example = tf.train.Example.FromString(record).features.feature
            words = [next(iter(example[name].bytes_list.value), b"") for name in data.user_categorical]
            numbers = [next(iter(example[name].float_list.value), np.nan) for name in data.user_numeric]
            table[example["user_id"].bytes_list.value[0].decode()] = (words, numbers)
    busy: list[str] = []
    if config.use_user_id:
        owners = np.repeat(np.arange(len(train_split)), np.diff(train_split.splits))
        counts = np.bincount(owners[np.asarray(train_split.positives)], minlength=len(train_split))
        busy = [train_split.user_ids[row] for row in np.flatnonzero(counts >= MIN_POSITIVES)]
    user_ids = [*table, *(user_id for user_id in busy if user_id not in table)]
    if not user_ids:
        return None
    nothing = ([b""] * len(data.user_categorical), [np.nan] * len(data.user_numeric))
    rows = [nothing, *(table.get(user_id, nothing) for user_id in user_ids)]
    coded = [_codes([words[place] for words, _ in rows]) for place in range(len(data.user_categorical))]
    values = np.array([numbers for _, numbers in rows], np.float64).reshape(len(rows), len(data.user_numeric))
    values[~np.isfinite(values)] = np.nan
    id_row = {user_id: number for number, user_id in enumerate(busy, 1)}
    return UserFeatures(
        user_ids,
        np.array([0, *(id_row.get(user_id, 0) for user_id in user_ids)], np.int32),
        np.array([codes for codes, _ in coded], np.int32).reshape(len(coded), len(rows)).T,
        tuple(size for _, size in coded),
        *_z_scores(values),
    )


class UserEmbedding(tf.keras.layers.Layer):
    """The sum of the embeddings of a user's categories, a linear map of their numbers, and their id embedding: float
    [B, D].

    The id is hidden from a share of the training steps, which train the embedding of unknown users instead.
    """

    def __init__(self, users: UserFeatures, dim: int, config: RetrievalConfig, **kwargs):
        super().__init__(**kwargs)
        self.row_of_id = tf.keras.layers.StringLookup(
            vocabulary=users.user_ids, num_oov_indices=1, oov_token=None
        )  # no token, since an id may be any
        self.id_rows, self.categories, self.numbers = (
            self._constant(name, value)
            for name, value in (
                ("id_rows", users.id_rows),
                ("categories", users.categories),
                ("numbers", np.concatenate([users.numbers, users.present], 1)),
            )
        )
        # Zeros: training starts where it would without the features.
        self.embeddings = [
            self.add_weight(f"category_{place}", [size, dim], initializer="zeros")
            for place, size in enumerate(users.sizes)
        ]
        self.map = self.add_weight("numbers_map", [2 * users.numbers.shape[1], dim], initializer="zeros")
        self.id_embedding = None
        if users.id_rows.any():
            shape = [1 + int(users.id_rows.max()), dim]
            self.id_embedding = self.add_weight("id_embedding", shape, initializer="zeros")
        self.hide_id = tf.keras.layers.Dropout(config.user_id_dropout)

    def call(self, rows, training=None):
        """The embeddings of some users: float [B, D]. rows: int [B], UNKNOWN_USER where a user has no features."""
        categories = tf.gather(self.categories, rows)  # [B, C]
        total = tf.matmul(tf.gather(self.numbers, rows), self.map)
        for place, embeddings in enumerate(self.embeddings):
            codes = categories[:, place]
            total += tf.gather(embeddings, codes) * tf.cast(codes != ABSENT, tf.float32)[:, None]
        if self.id_embedding is not None:
            is_shown = self.hide_id(tf.ones(tf.shape(rows)), training=training) > 0
            total += tf.gather(self.id_embedding, tf.where(is_shown, tf.gather(self.id_rows, rows), 0))
        return total

    def _constant(self, name: str, value: np.ndarray):
        weight = self.add_weight(name, value.shape, value.dtype, trainable=False, initializer="zeros")
        weight.assign(value)
        return weight


def _codes(words: list[bytes]) -> tuple[np.ndarray, int]:
    """The code of each word, int32, by falling frequency, and the number of codes; rare words are UNKNOWN."""
    counts = dict(zip(*np.unique([word for word in words if word] or [b""], return_counts=True)))
    kept = sorted(
        (word for word, count in counts.items() if word and count >= MIN_USERS), key=lambda word: (-counts[word], word)
    )
    code = {word: place for place, word in enumerate(kept, FIRST_CATEGORY)}
    codes = np.array([code.get(word, UNKNOWN) if word else ABSENT for word in words], np.int32)
    return codes, FIRST_CATEGORY + len(kept)


def _z_scores(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Z-scores of columns, 0 where a value is NaN, and which values are there: float32 [1 + U, K] each."""
    present = np.isfinite(values)
    count = np.maximum(present.sum(0), 1)
    mean = np.where(present, values, 0.0).sum(0) / count
    deviation = np.sqrt((np.where(present, values - mean, 0.0) ** 2).sum(0) / count)
    scores = np.where(present, (values - mean) / np.where(deviation > 1e-6, deviation, np.inf), 0.0)
    return scores.astype(np.float32), present.astype(np.float32)
