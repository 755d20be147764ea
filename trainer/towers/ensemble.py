"""An ensemble of submodels in one vector of unit norm, each in an equal share of its dimensions and equally long.

P submodels, D dimensions of all together.
"""

from __future__ import annotations

from trainer.keras import tf


def unit_submodels(vectors, num_submodels: int):
    """Scales each submodel's part to length 1 / sqrt(P): float [..., D] -> [..., D]; a part that is zero stays zero."""
    parts = tf.split(vectors, num_submodels, -1)
    return tf.concat([tf.math.l2_normalize(part, -1) for part in parts], -1) * num_submodels**-0.5


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
    columns = []
    for number, direction in enumerate(tf.split(directions, num_submodels, -1)):
        columns += [direction * scales[:, number, None], rest[:, number, None]]
    return tf.concat(columns, -1)


def without_scale(vectors, num_submodels: int):
    """The directions of vectors of `with_scale`, 0 in the last dimension of each submodel; zero vectors stay zero.

    vectors: float [..., D].
    Returns float [..., D].
    """
    columns = []
    for part in tf.split(vectors, num_submodels, -1):
        columns += [tf.math.l2_normalize(part[..., :-1], -1) * num_submodels**-0.5, tf.zeros_like(part[..., -1:])]
    return tf.concat(columns, -1)
