"""What the ranker is told (trainer.ranking.features), computed in the graph: one function for its examples and for the
answer.

B requests, H recent interactions, C candidates, N items, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from components.datasets.items import ItemMetadata
from serving.index import VectorIndex
from serving.online.catalog import UNDATED_S, LiveCatalog
from trainer.ranking.features import UNKNOWN_S
from trainer.retrieval.cross_attention import RECENT

PER_REQUEST = (
    "history_counts",
    "recency_s",
    "time_s",
    "user_vector",
)  # features that all candidates of a request share
PER_ITEM = ("domain", "creator", "categories", "numeric", "item_vector")  # features that an item has in every request
LATEST = 5  # interactions; an item is compared with these and with the RECENT ones
Learned = Callable[..., Mapping[str, tf.Tensor]]  # the retrieval model's signature `learned_similarity`


def codes_of(names: np.ndarray) -> np.ndarray:
    """A number for each distinct name, -1 for "": int32 [N]."""
    found, codes = np.unique(names, return_inverse=True)
    return np.where(found[codes] == "", -1, codes).astype(np.int32)


class PairFeatures:
    """The features of every candidate of every request, from constants of the items."""

    def __init__(
        self, facts: ItemMetadata, index: VectorIndex | LiveCatalog, event_names: Sequence[str], learned: Learned
    ):
        """index: holds the vectors float32 [N, D]. event_names: the event rules' kinds, in their order."""
        self._learned = learned
        self._event_names = list(event_names)
        strings = np.concatenate([facts.domains[:, None], facts.creators[:, None], facts.categories], 1)
        self._strings = _fixed(strings, tf.string)  # [N, 2 + G]
        self._codes = _fixed(np.stack([codes_of(facts.domains), codes_of(facts.creators)], 1), tf.int32)  # [N, 2]
        self._numeric = _fixed(facts.numeric, tf.float32)
        self._published_at_s = _fixed(np.nan_to_num(facts.published_at_s, nan=UNDATED_S), tf.int64)
        self.columns = [
            self._strings,
            self._codes,
            self._numeric,
            self._published_at_s,
        ]  # to be saved with what uses them
        self._index = index

    def __call__(self, query, items, events, age_s, candidates, popularity, time_s):
        """Features by name, each [B, C, ...], but for `position` and `fitted`, which the caller knows.

        query: float32 [B, D]. items: int32 [B, H] positions, oldest first, -1 where padded on the right; events string,
        age_s float32 [B, H]. candidates: int32 [B, C], valid positions. popularity: float32 [B, C]. time_s: int64 [B],
        0 unknown.
        """
        shape = tf.shape(candidates)
        length = tf.reduce_sum(tf.cast(items >= 0, tf.int32), 1)
        is_there = items >= 0
        is_kind = (events[:, :, None] == self._event_names) & is_there[:, :, None]
        counts = tf.reduce_sum(tf.cast(is_kind, tf.float32), 1)
        last = tf.gather(age_s, tf.maximum(length - 1, 0), batch_dims=1)
        per_request = {
            "history_counts": counts,
            "recency_s": tf.where((length > 0) & (last > 0), last, UNKNOWN_S),
            "time_s": time_s,
            "user_vector": query,
        }
        of_pair = tf.broadcast_to(tf.range(shape[0])[:, None], shape)  # which request a pair belongs to
        per_request = {name: tf.gather(value, of_pair) for name, value in per_request.items()}
        strings = tf.gather(self._strings, candidates)
        all_vectors = self._index.vectors
        vectors = tf.gather(all_vectors, candidates)  # [B, C, D]
        published = tf.gather(self._published_at_s, candidates)
        is_dated = (published > tf.cast(UNDATED_S, tf.int64)) & (time_s[:, None] > 0)
        recent, is_recent = self._recent(items, length)  # [B, R]
        weight = tf.cast(is_recent, tf.float32) / tf.maximum(
            tf.reduce_sum(tf.cast(is_recent, tf.float32), 1, keepdims=True), 1.0
        )
        recent_vectors = tf.gather(all_vectors, recent) * tf.cast(is_recent, tf.float32)[:, :, None]  # [B, R, D]
        cosines = tf.matmul(vectors, recent_vectors, transpose_b=True)  # [B, C, R]
        codes, recent_codes = tf.gather(self._codes, candidates), tf.gather(self._codes, recent)
        is_same = (codes[:, :, None] == recent_codes[:, None]) & (codes >= 0)[:, :, None]  # [B, C, R, 2]
        shares = tf.einsum("bcrn,br->bcn", tf.cast(is_same, tf.float32), weight)
        latest = weight[:, :LATEST] / tf.maximum(tf.reduce_sum(weight[:, :LATEST], 1, keepdims=True), 1e-9)
        highest = tf.reduce_max(tf.where(is_recent[:, None], cosines, -2.0), 2)
        return per_request | {
            "domain": strings[:, :, 0],
            "creator": strings[:, :, 1],
            "categories": strings[:, :, 2:],
            "numeric": tf.gather(self._numeric, candidates),
            "popularity": popularity,
            "age_s": tf.where(is_dated, tf.cast(tf.maximum(time_s[:, None] - published, 0), tf.float32), UNKNOWN_S),
            "item_vector": vectors,
            "max_similarity": tf.where(highest < -1.5, 0.0, highest),
            "mean_similarity": tf.reduce_sum(cosines * weight[:, None], 2),
            "latest_similarity": tf.reduce_sum(cosines[:, :, :LATEST] * latest[:, None], 2),
            "learned_similarity": self._learned(query=query, candidates=vectors, history=recent_vectors)["similarity"],
            "domain_share": shares[:, :, 0],
            "creator_share": shares[:, :, 1],
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.string),
            tf.TensorSpec([None, None], tf.float32),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def graph(self, query, items, events, age_s, candidates, popularity, time_s):
        """`__call__` as one graph for all shapes."""
        return self(query, items, events, age_s, candidates, popularity, time_s)

    def _recent(self, items, length):
        """The last interactions: positions [B, R] (0 where there is none) and which are there; R is at most RECENT."""
        at = length[:, None] - 1 - tf.range(tf.minimum(RECENT, tf.shape(items)[1]))[None]
        is_there = at >= 0
        return tf.where(is_there, tf.gather(items, tf.maximum(at, 0), batch_dims=1), 0), is_there


def flat(features):
    """[B, C, ...] -> [B x C, ...]; the shapes beyond [B, C] are known."""
    return {name: tf.reshape(value, [-1, *value.shape[2:]]) for name, value in features.items()}


def relative(counts):
    """Counts as a multiple of their mean: 1 is an item of the usual popularity. [..., N] -> float32 [..., N]."""
    counts = np.asarray(counts, np.float64)
    return (counts / np.maximum(counts.mean(-1, keepdims=True), 1e-9)).astype(np.float32)


def _fixed(values, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.constant(values, dtype), trainable=False)
