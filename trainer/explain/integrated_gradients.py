"""Attribution of scores to interactions and fields: exact where a model is linear, else by integrated gradients.

Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017.
B users, L interactions of a history, M items, D dimensions of the towers, R rows, F fields, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trainer.keras import tf
from trainer.towers.user_tower import ProfileTower

STEPS = 256  # points of the Gauss-Legendre rule; the kinks of the rectifiers leave an error below 1e-3
_ALMOST_NOTHING = 1e-6


def history_parts(tower: Any, history, items):
    """Attributes the scores of some items to the interactions of a history.

    tower: a user tower of `trainer.towers.user_tower`.
    history: as the tower takes it, `vectors` float [B, L, D].
    items: float32 [B, M, D].
    Returns float32 [B, M, L], 0 where padded, and float32 [B, M], the score without any interaction; their sum is user
    . item.
    """
    if isinstance(tower, ProfileTower):
        return _parts_of_sum(tower, history, items)
    return _integrated(tower, history, items)


def _parts_of_sum(tower: ProfileTower, history, items):
    """A profile is a weighted sum of unit length, so each part is scaled as the whole is."""
    parts = tower.weights_of(history)[..., None] * tower.directions(history["vectors"])  # [B, L, D]
    prior = tower.prior(history["users"])  # [B, D]
    whole = tf.reduce_sum(parts, 1) + prior
    scale = tf.math.divide_no_nan(tower(history, training=False), whole)[:, None]  # [B, 1, D]
    return tf.einsum("bld,bmd->bml", parts * scale, items), tf.einsum("bd,bmd->bm", prior * scale[:, 0], items)


def _integrated(tower, history, items):
    """Integrates from nearly zero vectors to the real ones; the events' kinds and times count for the rest."""
    batch, length, num_items = tf.shape(items)[0], tf.shape(history["vectors"])[1], tf.shape(items)[1]

    def score(vectors):  # of every item by itself: [B x M, L, D] -> [B x M]
        repeated = {name: tf.repeat(value, num_items, 0) for name, value in history.items() if name != "vectors"}
        users = tower(repeated | {"vectors": vectors}, training=False)
        return tf.reduce_sum(users * tf.reshape(items, [batch * num_items, -1]), 1)

    real = tf.repeat(history["vectors"], num_items, 0)
    gradient = tf.zeros_like(real)
    for at, weight in _rule(32):  # smooth, so few are enough
        with tf.GradientTape() as tape:
            scaled = at * real
            tape.watch(scaled)
            total = tf.reduce_sum(score(scaled))
        gradient += weight * tape.gradient(total, scaled)
    parts = tf.reshape(tf.reduce_sum(gradient * real, 2), [batch, num_items, length])
    return parts, tf.reshape(score(_ALMOST_NOTHING * real), [batch, num_items])


def integrated_gradients(value: Callable[[Sequence[Any]], Any], fields: Sequence[Any]):
    """Attributes a value to fields, from all of them zero to what they are.

    value: a function of the fields' vectors, each float [R, F, width] -> float [R].
    fields: the vectors; those at the same place of F count together.
    Returns float32 [R, F], and float32 [R], the value where all are zero.
    """
    rows = tf.shape(fields[0])[0]
    points = np.array(_rule(STEPS), np.float32)  # [S, 2]
    along = [tf.reshape(points[:, 0, None, None, None] * field[None], [-1, *field.shape[1:]]) for field in fields]
    with tf.GradientTape() as tape:
        tape.watch(along)
        total = tf.reduce_sum(value(along))
    parts = []
    for gradient, field in zip(tape.gradient(total, along), fields):
        steps = tf.reshape(gradient, [STEPS, rows, *field.shape[1:]])
        parts.append(tf.reduce_sum(tf.einsum("s,srfw->rfw", tf.constant(points[:, 1]), steps) * field, 2))
    return tf.add_n(parts), value([tf.zeros_like(field) for field in fields])


def _rule(steps: int) -> list[tuple[float, float]]:
    """Points and weights of the Gauss-Legendre rule from 0 to 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return [(float(point + 1) / 2, float(weight) / 2) for point, weight in zip(points, weights)]
