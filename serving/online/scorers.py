"""Scoring of candidates: the ranker's utility, or the similarity of retrieval where there is no ranker.

Items are rows of the catalogue, -1 is none. B requests, C candidates, O objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from components.datasets.items import ItemMetadata
from serving.online.catalog import LiveCatalog
from serving.online.histories import History
from serving.online.loaded_signatures import LoadedSignatures
from serving.online.pair_features import Learned, PairFeatures, flat
from serving.online.rerank import RANKED, SIMILAR
from trainer.ranking.features import POSITION, SEEN_BY_RETRIEVAL


class ScoringContext(NamedTuple):
    """What a request's candidates are scored with."""

    query: tf.Tensor  # float32 [B, dim], the user's vector
    history: History
    time_s: tf.Tensor  # int64 [B], seconds since 1970, 0 = unknown
    objective_weights: tf.Tensor  # float32 [B, O], a row of zeros = the configured ones


def context_specs(dim: int, num_objectives: int) -> ScoringContext:
    """The shapes and types of a ScoringContext."""
    items = tf.TensorSpec([None, None], tf.int32)
    history = History(items, tf.TensorSpec([None, None], tf.string), tf.TensorSpec([None, None], tf.float32), items)
    return ScoringContext(
        tf.TensorSpec([None, dim], tf.float32),
        history,
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None, num_objectives], tf.float32),
    )


class RetrievalScorer(tf.Module):
    """The similarity of retrieval is the utility; no objective is predicted."""

    reason = SIMILAR

    def __init__(self, num_objectives: int = 0):
        super().__init__()
        self.num_objectives = num_objectives

    def score(self, similarity, items, context: ScoringContext):
        """similarity: float32 [B, C] of retrieval. items: int32 [B, C].

        Returns utility float32 [B, C] and probabilities float32 [B, C, O].
        """
        del items, context
        return similarity, tf.zeros(tf.concat([tf.shape(similarity), [self.num_objectives]], 0))

    def explain(self, similarity, items, context: ScoringContext):
        """As `RankerScorer.explain`: there is no field."""
        del items, context
        batch, num_items = tf.unstack(tf.shape(similarity))
        return similarity, tf.zeros([batch, num_items, 0]), similarity, tf.zeros([batch, 0], tf.string)


class RankerScorer(tf.Module):
    """utility = the sum over the objectives of weight x probability, as the ranker predicts it."""

    reason = RANKED

    def __init__(
        self,
        ranker: Any,
        facts: ItemMetadata,
        catalog: LiveCatalog,
        learned: Learned,
        popularity: np.ndarray,
        weights: Mapping[str, float],
    ):
        """ranker: loaded, with the signatures `rank` and `explain` (docs/artifacts.md).
        popularity: float32 [num_rows], `relative` counts.
        weights: by objective, in the order of the event rules.
        """
        super().__init__()
        self._ranker = LoadedSignatures(ranker, ("rank", "explain"))
        self._features = PairFeatures(facts, catalog, list(weights), learned)
        self._columns = self._features.columns
        self._popularity = tf.Variable(tf.constant(popularity, tf.float32), trainable=False)
        self._weights = tf.constant(list(weights.values()), tf.float32)
        self.num_objectives = len(weights)

    def score(self, similarity, items, context: ScoringContext):
        """As `RetrievalScorer.score`."""
        del similarity
        return self._utility(self._rows(items, context), items, context)

    def explain(self, similarity, items, context: ScoringContext):
        """The utility split into what each field of the ranker adds to it.

        The arguments: as of `RetrievalScorer.score`. F fields.
        Returns utility [B, C], what each field adds [B, C, F], what it is without them [B, C], and the fields' names
        [B, F], "" where there is no candidate.
        """
        del similarity
        batch, num_items = tf.unstack(tf.shape(items))
        rows = self._rows(items, context)
        utility, _ = self._utility(rows, items, context)
        weights = tf.repeat(self._effective(context.objective_weights), num_items, 0)
        explained = self._ranker.call("explain", weights=weights, **rows)
        shape = [batch, num_items, tf.shape(explained["parts"])[1]]
        names = tf.pad(tf.reshape(explained["names"], shape), [[0, 0], [0, 1], [0, 0]], constant_values="")[:, 0]
        parts = tf.reshape(explained["parts"], shape)
        return utility, parts, tf.reshape(explained["rest"], [batch, num_items]), names

    def _utility(self, rows, items, context: ScoringContext):
        shape = tf.concat([tf.shape(items), [self.num_objectives]], 0)
        probabilities = tf.reshape(self._ranker.call("rank", **rows)["probabilities"], shape)
        return tf.einsum("bco,bo->bc", probabilities, self._effective(context.objective_weights)), probabilities

    def _rows(self, items, context: ScoringContext):
        """The ranker's features, a row for each candidate of each request: [B x C, ...]."""
        at, history = tf.maximum(items, 0), context.history
        popularity = tf.gather(self._popularity, at)
        features = self._features(
            context.query, history.items, history.events, history.age_s, at, popularity, context.time_s
        )
        return flat(features) | {name: tf.zeros([tf.size(at)], tf.int64) for name in (POSITION, SEEN_BY_RETRIEVAL)}

    def _effective(self, weights):
        is_given = tf.reduce_any(weights != 0, 1)
        return tf.where(is_given[:, None], weights, self._weights[None])


Scorer = RetrievalScorer | RankerScorer
