"""Why an item: what each interaction adds to its score, and what each field adds to its utility. In the graph.

B requests, M items asked about, H recent interactions, F fields of the ranker, D dimensions.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from serving.online.catalog import Shelf
from serving.online.histories import History
from serving.online.scorers import Order


class Explainer(tf.Module):
    """Explains scores of retrieval by the history, and utilities by the ranker's fields."""

    def __init__(self, explain_user: Any, shelf: Shelf, order: Order):
        """explain_user: the retrieval model's signature."""
        super().__init__()
        self._explain_user, self._shelf, self._order = explain_user, shelf, order

    def __call__(self, user_id, query, history: History, history_vectors, items, time_s, weights):
        """query: float32 [B, D]. history_vectors: float32 [B, H, D], zeros where padded. items: int32 [B, M], -1 = unknown. The rest: as
        the order takes it.

        Returns `score` [B, M] of retrieval, by interaction `history_parts` [B, M, H] and `history_rest` [B, M]; `utility` [B, M], by field
        `field_parts` [B, M, F], `field_rest` [B, M] and `field_names` [B, F], no field without a ranker. All are 0 for an unknown item.
        """
        at = tf.maximum(items, 0)
        vectors = tf.gather(self._shelf.vectors, at)  # [B, M, D]
        of_history = self._explain_user(
            user_id=user_id,
            history_vectors=history_vectors,
            history_events=history.events,
            history_age_s=history.age_s,
            item_vectors=vectors,
        )
        score = tf.einsum("bd,bmd->bm", query, vectors)
        utility, fields, rest, field_names = self._order.explain(score, items, query, history, time_s, weights)
        explained = {
            "score": score,
            "history_parts": of_history["parts"],
            "history_rest": of_history["rest"],
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
