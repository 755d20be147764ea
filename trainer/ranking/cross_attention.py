"""A learned similarity for a short list: each candidate looks at the history for what speaks for it.

Q queries, C candidates, L interactions of a history, D dimensions.
"""

from __future__ import annotations

from trainer.keras import tf
from trainer.retrieval.similarity import dot

RECENT = 50  # interactions that a candidate looks at
SHARPNESS = 8.0  # of the match at the start: interactions at cosines of one half and of none weigh as 55 to 1
HIDDEN = -1e9  # a match, or a logit, that weighs nothing


class CrossAttention(tf.keras.layers.Layer):
    """query . candidate + the sum over the history of share x worth to the candidate; shares are a softmax of the match to the candidate.

    After Zhou et al., Deep Interest Network, KDD 2018. Match and worth are bilinear forms, so a history is projected once for all
    candidates. It starts as the dot product, and without a history it stays that. As it needs one, it orders a short list and no index.
    """

    def __init__(self, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.match = self.add_weight("match", [dim, dim], initializer=tf.keras.initializers.Identity(SHARPNESS))
        self.worth = self.add_weight("worth", [dim, dim], initializer="zeros")

    def call(self, query, candidates, history):
        """query: float [Q, D]; candidates: [Q, C, D], each query's own; history: [Q, L, D], zeros where padded -> float [Q, C]."""
        is_there = tf.reduce_any(history != 0, -1)[:, None]  # [Q, 1, L]
        match, worth = (dot(candidates, tf.matmul(history, kernel)) for kernel in (self.match, self.worth))  # [Q, C, L]
        # Without a rank, TensorFlow's optimiser of the answer's graph warns of the softmax.
        shares = tf.nn.softmax(tf.ensure_shape(tf.where(is_there, match, HIDDEN), [None, None, None]))
        attended = tf.reduce_sum(shares * worth, -1)  # what is padded is worth 0
        return dot(query[:, None], candidates)[:, 0] + attended
