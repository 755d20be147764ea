"""Explanations: what each interaction adds to an item's similarity, and what each field of the ranker adds to its
utility.

B requests, M items asked about, H recent interactions, F fields of the ranker.
"""

from __future__ import annotations

import tensorflow as tf

from serving.online.catalog import LiveCatalog
from serving.online.loaded_signatures import LoadedSignatures
from serving.online.scorers import Scorer, ScoringContext


class Explainer:
    """Attributes similarities of retrieval to the history, and utilities to the ranker's fields."""

    def __init__(self, retrieval: LoadedSignatures, catalog: LiveCatalog, scorer: Scorer):
        """retrieval: with the retrieval model's signature `explain_user`."""
        self._retrieval, self._catalog, self._scorer = retrieval, catalog, scorer

    def __call__(self, user_id, history_vectors, items, context: ScoringContext):
        """user_id: string [B]. history_vectors: float32 [B, H, dim], zeros where padded. items: int32 [B, M], -1 =
        unknown.

        Returns `score` [B, M] of retrieval, by interaction `history_parts` [B, M, H] and `history_rest` [B, M];
        `utility` [B, M], by field `field_parts` [B, M, F], `field_rest` [B, M] and `field_names` [B, F], no field
        without a ranker. All are 0 for an unknown item.
        """
        vectors = tf.gather(self._catalog.vectors, tf.maximum(items, 0))  # [B, M, dim]
        by_history = self._retrieval.call(
            "explain_user",
            user_id=user_id,
            history_vectors=history_vectors,
            history_events=context.history.events,
            history_age_s=context.history.age_s,
            item_vectors=vectors,
        )
        score = tf.einsum("bd,bmd->bm", context.query, vectors)
        utility, fields, rest, field_names = self._scorer.explain(score, items, context)
        explained = {
            "score": score,
            "history_parts": by_history["parts"],
            "history_rest": by_history["rest"],
            "utility": utility,
            "field_parts": fields,
            "field_rest": rest,
        }
        is_known = items >= 0
        explained = {
            name: tf.where(is_known if value.shape.rank == 2 else is_known[:, :, None], value, 0.0)
            for name, value in explained.items()
        }
        return explained | {"field_names": field_names}
