"""An ensemble of submodels in one vector of unit norm, each in an equal share of its dimensions and equally long.

P submodels, D dimensions of all together.
"""

from __future__ import annotations

from trainer.keras import tf


def unit_submodels(vectors, num_submodels: int):
    """Scales each submodel's part to length 1 / sqrt(P): float [..., D] -> [..., D]; a part that is zero stays zero."""
    parts = _parts(vectors, num_submodels)
    return tf.reshape(tf.math.l2_normalize(parts, -1) * num_submodels**-0.5, tf.shape(vectors))


def with_scale(directions, scales):
    """Candidate vectors of unit norm whose dot product with a query is scale times similarity.

    That holds for queries that are 0 in the last dimension of each submodel, which in a candidate takes up the rest of
    its length (Bachrach et al., RecSys 2014).
    directions: float [B, D - P], made by `unit_submodels`.
    scales: float [B, P], from 0 to 1.
    Returns float [B, D].
    """
    num_submodels = scales.shape[-1]
    rest = tf.sqrt(tf.maximum(1.0 - scales**2, 1e-12)) * num_submodels**-0.5
    parts = _parts(directions, num_submodels) * scales[..., None]
    return tf.reshape(tf.concat([parts, rest[..., None]], -1), [-1, directions.shape[-1] + num_submodels])


def without_scale(vectors, num_submodels: int):
    """The directions of vectors of `with_scale`, 0 in the last dimension of each submodel; zero vectors stay zero.

    vectors: float [..., D].
    Returns float [..., D].
    """
    parts = _parts(vectors, num_submodels)
    is_direction = tf.range(parts.shape[-1]) < parts.shape[-1] - 1
    parts = tf.math.l2_normalize(tf.where(is_direction, parts, 0.0), -1) * num_submodels**-0.5
    return tf.reshape(parts, tf.shape(vectors))


def _parts(vectors, num_submodels: int):
    """The parts of the submodels: float [..., D] -> [..., P, D / P]."""
    size = vectors.shape[-1] // num_submodels
    return tf.reshape(vectors, tf.concat([tf.shape(vectors)[:-1], [num_submodels, size]], 0))
