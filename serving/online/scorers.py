"""The order of the candidates: by the ranker's utility, or as retrieval has them where there is no ranker.

B requests, C candidates, O objectives, N items, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.datasets.items import ItemMetadata
from serving.online.catalog import Shelf
from serving.online.histories import History
from serving.online.pair_features import Learned, PairFeatures, flat
from serving.online.rerank import RANKED, SIMILAR
from trainer.ranking.features import POSITION, SEEN_BY_RETRIEVAL


class RetrievalOrder(tf.Module):
    """The scores of retrieval are the utility; no objective is predicted."""

    reason = SIMILAR

    def __init__(self, num_objectives: int = 0):
        super().__init__()
        self.num_objectives = num_objectives

    def __call__(self, scores, positions, query, history: History, time_s, weights):
        """scores: float32 [B, C] of retrieval. positions: int32 [B, C], -1 = none. query: float32 [B, D]. time_s: int64 [B], 0 =
        unknown. weights: float32 [B, O], a row of zeros = the configured ones.

        Returns utility float32 [B, C] and probabilities float32 [B, C, O].
        """
        del positions, query, history, time_s, weights
        return scores, tf.zeros(tf.concat([tf.shape(scores), [self.num_objectives]], 0))

    def explain(self, scores, positions, query, history: History, time_s, weights):
        """As `RankerOrder.explain`: there is no field."""
        del positions, query, history, time_s, weights
        return (
            scores,
            tf.zeros([*tf.unstack(tf.shape(scores)), 0]),
            scores,
            tf.zeros([tf.shape(scores)[0], 0], tf.string),
        )


class RankerOrder(tf.Module):
    """utility = the sum over the objectives of weight x probability, as the ranker predicts it."""

    reason = RANKED

    def __init__(
        self,
        ranker: Any,
        facts: ItemMetadata,
        shelf: Shelf,
        learned: Learned,
        popularity: np.ndarray,
        weights: Mapping[str, float],
    ):
        """ranker: loaded, with the signatures `rank` and `explain` (docs/architecture.md). popularity: float32 [N], of `relative` counts.
        weights: by objective, in the order of the event rules.
        """
        super().__init__()
        self._ranker, self._rank = ranker, ranker.signatures["rank"]
        self._explain = ranker.signatures["explain"]
        self._features = PairFeatures(facts, shelf, list(weights), learned)
        self._popularity = tf.Variable(tf.constant(popularity, tf.float32), trainable=False)
        self._weights = tf.constant(list(weights.values()), tf.float32)
        self.num_objectives = len(weights)

    def __call__(self, scores, positions, query, history: History, time_s, weights):
        """As `RetrievalOrder`."""
        rows = self._rows(positions, query, history, time_s)
        shape = tf.concat([tf.shape(positions), [self.num_objectives]], 0)
        probabilities = tf.reshape(self._rank(**rows)["probabilities"], shape)
        return tf.einsum("bco,bo->bc", probabilities, self._weighing(weights)), probabilities

    def explain(self, scores, positions, query, history: History, time_s, weights):
        """The arguments: as `RetrievalOrder`. Returns utility [B, C], what each field adds [B, C, F], what it is without them [B, C], and
        the fields' names [B, F].
        """
        utility, _ = self(scores, positions, query, history, time_s, weights)
        weights = tf.repeat(self._weighing(weights), tf.shape(positions)[1], 0)
        explained = self._explain(weights=weights, **self._rows(positions, query, history, time_s))
        batch, items = tf.unstack(tf.shape(positions))
        names = tf.reshape(explained["names"], [batch, items, -1])[:, 0]
        return (
            utility,
            tf.reshape(explained["parts"], [batch, items, -1]),
            tf.reshape(explained["rest"], [batch, items]),
            names,
        )

    def _rows(self, positions, query, history: History, time_s):
        items = tf.maximum(positions, 0)
        popularity = tf.gather(self._popularity, items)
        rows = flat(self._features(query, history.items, history.events, history.age_s, items, popularity, time_s))
        return rows | {name: tf.zeros([tf.size(items)], tf.int64) for name in (POSITION, SEEN_BY_RETRIEVAL)}

    def _weighing(self, weights):
        is_given = tf.reduce_any(weights != 0, 1)
        return tf.where(is_given[:, None], weights, self._weights[None])


Order = RetrievalOrder | RankerOrder
