"""Several models' vectors side by side in one of unit norm: every part is as long as every other. P parts, D dimensions of all."""

from __future__ import annotations

from trainer.keras import tf


def unit_parts(vectors, parts: int):
    """float [..., D] -> the same directions, each of the parts 1 / sqrt(parts) long; a part that is zero stays zero."""
    return tf.concat([tf.math.l2_normalize(part, -1) for part in tf.split(vectors, parts, -1)], -1) * parts**-0.5


def with_gain(directions, gains):
    """Unit vectors whose dot product with a user that is 0 in the last dimension of each part is gain times similarity.

    directions: float [B, D - P], made by `unit_parts`; gains: float [B, P], from 0 to 1. Returns [B, D], unit norm: the last dimension
    of a part holds the rest (Bachrach et al., RecSys 2014).
    """
    parts = gains.shape[-1]
    rest = tf.sqrt(tf.maximum(1.0 - gains**2, 1e-12)) * parts**-0.5
    columns = []
    for part, direction in enumerate(tf.split(directions, parts, -1)):
        columns += [direction * gains[:, part, None], rest[:, part, None]]
    return tf.concat(columns, -1)


def without_gain(vectors, parts: int):
    """The directions in vectors of `with_gain`, 0 in the last dimension of each part: float [..., D]; a zero vector stays zero."""
    columns = []
    for part in tf.split(vectors, parts, -1):
        columns += [tf.math.l2_normalize(part[..., :-1], -1) * parts**-0.5, tf.zeros_like(part[..., -1:])]
    return tf.concat(columns, -1)
