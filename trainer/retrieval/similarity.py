"""Exact similarities of queries and candidates, by name; more alike is higher.

The learned similarity needs a history besides: `trainer.retrieval.cross_attention`.
Q queries, N candidates, D dimensions; all may share dimensions before those.
"""

from __future__ import annotations

from collections.abc import Callable

from trainer.keras import tf

Similarity = Callable[..., tf.Tensor]  # queries float [..., Q, D], candidates float [..., N, D] -> float [..., Q, N]


def dot(queries, candidates):
    """Dot product."""
    return tf.matmul(queries, candidates, transpose_b=True)


def cosine(queries, candidates):
    """Cosine of the angle, from -1 to 1; 0 where a vector is zero."""
    return dot(tf.math.l2_normalize(queries, -1), tf.math.l2_normalize(candidates, -1))


def euclidean(queries, candidates):
    """Minus the squared Euclidean distance. Of unit vectors it is 2 cosine - 2, so the order is the cosine's."""
    lengths = tf.reduce_sum(queries**2, -1)[..., :, None] + tf.reduce_sum(candidates**2, -1)[..., None, :]
    return -tf.maximum(lengths - 2 * dot(queries, candidates), 0.0)


def hamming(queries, candidates):
    """Minus the Hamming distance of the signs; 0 counts as positive. As a bit a dimension, a vector takes a 32nd of the
    memory.

    Its expectation for random directions grows with the angle (Charikar, STOC 2002).
    """
    signs = [tf.where(vectors >= 0, 1.0, -1.0) for vectors in (queries, candidates)]
    return (dot(*signs) - tf.cast(tf.shape(candidates)[-1], tf.float32)) / 2


SIMILARITIES: dict[str, Similarity] = {"dot": dot, "cosine": cosine, "euclidean": euclidean, "hamming": hamming}
