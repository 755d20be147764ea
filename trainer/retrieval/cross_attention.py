"""Cross-attention of candidates to the user's history: a learned similarity for short lists.

Q queries, C candidates, L interactions of a history, D dimensions.
"""

from __future__ import annotations

from trainer.keras import tf
from trainer.retrieval.similarity import dot

RECENT = 50  # interactions that a candidate attends to
SHARPNESS = 8.0  # of the match at the start: interactions at cosines of one half and of none weigh as 55 to 1
HIDDEN = -1e9  # a logit without weight


class CrossAttention(tf.keras.layers.Layer):
    """query . candidate + the sum over the history of softmax(match) x worth, both bilinear forms of an interaction and
    the candidate.

    It starts as the dot product, and is that without a history. A history is projected once for all candidates.
    Source: after Zhou et al., Deep Interest Network, KDD 2018.
    """

    def __init__(self, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.match = self.add_weight("match", [dim, dim], initializer=tf.keras.initializers.Identity(SHARPNESS))
        self.worth = self.add_weight("worth", [dim, dim], initializer="zeros")

    def call(self, query, candidates, history):
        """The similarity of each query's candidates: float [Q, C].

        query: float [Q, D].
        candidates: float [Q, C, D].
        history: float [Q, L, D], zeros where padded.
        """
        is_there = tf.reduce_any(history != 0, -1)[:, None]  # [Q, 1, L]
        match, worth = (dot(candidates, tf.matmul(history, kernel)) for kernel in (self.match, self.worth))  # [Q, C, L]
        # Without a rank, TensorFlow's optimiser of the answer's graph warns of the softmax.
        shares = tf.nn.softmax(tf.ensure_shape(tf.where(is_there, match, HIDDEN), [None, None, None]))
        attended = tf.reduce_sum(shares * worth, -1)  # what is padded is worth 0
        return dot(query[:, None], candidates)[:, 0] + attended
