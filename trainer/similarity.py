"""How alike a query and a candidate are, by name: one interface, more alike is higher. Exact, so each is its own oracle for an index.

B queries, N candidates, D dimensions, L interactions of a history.
"""

from __future__ import annotations

from collections.abc import Callable

from trainer.keras import tf

Similarity = Callable[..., tf.Tensor]  # queries float [B, D], candidates float [N, D] -> float [B, N]


def dot(queries, candidates):
    """Dot product."""
    return tf.matmul(queries, candidates, transpose_b=True)


def cosine(queries, candidates):
    """Cosine of the angle, from -1 to 1; 0 where a vector is zero."""
    return dot(tf.math.l2_normalize(queries, -1), tf.math.l2_normalize(candidates, -1))


def euclidean(queries, candidates):
    """Minus the squared distance. Of unit vectors it is 2 cosine - 2, so the order is the cosine's."""
    distance = tf.reduce_sum(queries**2, -1)[:, None] - 2 * dot(queries, candidates) + tf.reduce_sum(candidates**2, -1)
    return -tf.maximum(distance, 0.0)


def hamming(queries, candidates):
    """Minus the number of dimensions whose signs differ; 0 counts as positive. As codes of a bit a dimension, a 32nd of the memory.

    Its expectation for random directions grows with the angle (Charikar, STOC 2002).
    """
    signs = [tf.where(vectors >= 0, 1.0, -1.0) for vectors in (queries, candidates)]
    return (dot(*signs) - tf.cast(tf.shape(candidates)[1], tf.float32)) / 2


SIMILARITIES: dict[str, Similarity] = {"dot": dot, "cosine": cosine, "euclidean": euclidean, "hamming": hamming}


def similarity(name: str) -> Similarity:
    """The similarity of that name. Raises ValueError for a name that there is not; `learned` has weights, so it is a layer of its own."""
    if name not in SIMILARITIES:
        raise ValueError(f"similarity: got {name!r}, expected one of {', '.join(SIMILARITIES)} (a learned one: CrossAttention)")
    return SIMILARITIES[name]


def nearest(name: str, queries, candidates, k: int):
    """The k most alike candidates of each query, best first, equal ones by position: scores float [B, k], positions int32 [B, k].

    Raises ValueError where k is above the number of candidates.
    """
    if k > candidates.shape[0]:
        raise ValueError(f"k: got {k}, expected at most the {candidates.shape[0]} candidates")
    return tf.math.top_k(similarity(name)(queries, candidates), k)


class CrossAttention(tf.keras.layers.Layer):
    """A learned similarity for a short list: each candidate looks at the history and asks for what speaks for it (Zhou et al., DIN, 2018).

    score = query . candidate + attended . candidate, where attended is the history weighted by a softmax of learned match: it starts as
    the dot product and can only be computed where the history is known, so it orders a short list and no index.
    """

    def __init__(self, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.scale = dim**-0.5
        self.ask, self.offer = (tf.keras.layers.Dense(dim, use_bias=False) for _ in range(2))
        self.value = tf.keras.layers.Dense(dim, use_bias=False, kernel_initializer="zeros")

    def call(self, queries, candidates, history):
        """queries: float [B, D]; candidates: [B, N, D], each query's own; history: [B, L, D], zeros where padded -> float [B, N]."""
        match = tf.matmul(self.ask(candidates), self.offer(history), transpose_b=True) * self.scale  # [B, N, L]
        there = tf.reduce_any(history != 0, -1)[:, None]  # [B, 1, L]
        shares = tf.nn.softmax(tf.where(there, match, -1e9), -1) * tf.cast(there, tf.float32)  # an empty history offers nothing
        attended = tf.matmul(shares, self.value(history))  # [B, N, D]
        return tf.reduce_sum((queries[:, None] + attended) * candidates, -1)
