"""From scored candidates to the page: a cap for each creator, diversity, exploration. In the graph, each request on its own.

B requests, C candidates, K places of the page, D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.candidates import cap_or_all

RANKED, SIMILAR, NEW_PERSON, DIVERSE, EXPLORED = range(5)
REASONS = ("ranked", "similar", "new_person", "diverse", "explored")
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Wishes(NamedTuple):
    """How the page is put together, a value a request."""

    diversity: tf.Tensor  # float32 [B], 0 to 1: what likeness to the page so far weighs beside utility
    of_creator: tf.Tensor  # int32 [B], at most so many items of a creator; 0 = any number
    explore_share: tf.Tensor  # float32 [B], 0 to 1: the chance of each place to go to any candidate
    seed: tf.Tensor  # int32 [B], of that chance


def choose(utility, positions, vectors, creators, wishes: Wishes, width):
    """Fill the places of a page one after the other.

    A place goes to the candidate of the highest (1 - diversity) u - diversity s, with u the utility on a scale from 0 to 1 among the
    candidates and s the largest cosine to an item already on the page (maximal marginal relevance, Carbonell & Goldstein, 1998), or, with
    the chance `explore_share`, to the one of the highest random number. Both never go beyond the cap of a creator.

    utility: float32 [B, C]. positions: int32 [B, C], -1 = no candidate. vectors: float32 [B, C, D], unit norm. creators: int32 [B, C], -1 =
    none. Returns columns int32 [B, width] (-1 beyond the last), and whether each was `DIVERSE` or `EXPLORED` or neither (-1).
    """
    is_plain = tf.reduce_all((wishes.diversity <= 0) & (wishes.of_creator <= 0) & (wishes.explore_share <= 0))
    return tf.cond(
        is_plain,
        lambda: _in_order(utility, positions, width),
        lambda: _one_by_one(utility, positions, vectors, creators, wishes, width),
    )


def _in_order(utility, positions, width):
    scores, columns = tf.math.top_k(tf.where(positions >= 0, utility, -np.inf), tf.minimum(width, tf.shape(utility)[1]))
    columns = _padded(tf.where(scores == -np.inf, -1, columns), width)
    return columns, tf.fill(tf.shape(columns), -1)


def _one_by_one(utility, positions, vectors, creators, wishes: Wishes, width):
    is_there = positions >= 0
    lowest = tf.reduce_min(tf.where(is_there, utility, np.inf), 1, keepdims=True)
    highest = tf.reduce_max(tf.where(is_there, utility, -np.inf), 1, keepdims=True)
    scaled = tf.where(is_there & (highest > lowest), (utility - lowest) / (highest - lowest), 0.0)
    chance = uniform(wishes.seed[:, None], positions)  # [B, C]
    steps = tf.minimum(width, tf.shape(utility)[1])
    luck = uniform(wishes.seed[:, None], -1 - tf.range(1, steps + 1)[None])  # [B, steps]
    share, cap = wishes.diversity[:, None], cap_or_all(wishes.of_creator)[:, None]

    def place(step, free, likeness, taken, columns, reasons):
        worth = (1 - share) * scaled - share * tf.maximum(likeness, -1.0)
        open_ = free & ((taken < cap) | (creators < 0))
        explores = luck[:, step] < wishes.explore_share
        best = tf.argmax(tf.where(open_, tf.where(explores[:, None], chance, worth), -np.inf), 1, tf.int32)
        plain = tf.argmax(tf.where(open_, scaled, -np.inf), 1, tf.int32)
        is_any = tf.reduce_any(open_, 1)
        chosen = tf.one_hot(best, tf.shape(free)[1], True, False, dtype=tf.bool) & is_any[:, None]
        closeness = tf.einsum("bcd,bd->bc", vectors, tf.gather(vectors, best, batch_dims=1))
        likeness = tf.maximum(likeness, tf.where(is_any[:, None], closeness, -1.0))
        by_same = (creators == tf.gather(creators, best, batch_dims=1)[:, None]) & is_any[:, None]
        reason = tf.where(explores, EXPLORED, tf.where(best == plain, -1, DIVERSE))
        return (
            step + 1,
            free & ~chosen,
            likeness,
            taken + tf.cast(by_same, tf.int32),
            columns.write(step, tf.where(is_any, best, -1)),
            reasons.write(step, tf.where(is_any, reason, -1)),
        )

    arrays = [tf.TensorArray(tf.int32, steps, element_shape=[None]) for _ in range(2)]
    start = (0, is_there, tf.fill(tf.shape(utility), -1.0), tf.zeros_like(positions), *arrays)
    *_, columns, reasons = tf.while_loop(lambda step, *_: step < steps, place, start)
    return tuple(_padded(tf.transpose(array.stack()), width) for array in (columns, reasons))


def uniform(seed, number):
    """A number from 0 to 1 that depends on seed and number alone (int32, broadcast), whatever else is in the batch: SplitMix64's mixer."""
    state = tf.cast(tf.cast(seed, tf.int64), tf.uint64) * tf.constant(_GOLDEN, tf.uint64) + tf.cast(tf.cast(number, tf.int64), tf.uint64)
    state = state * tf.constant(_GOLDEN, tf.uint64) + tf.constant(_GOLDEN, tf.uint64)
    for shift, factor in zip((30, 27), _MIX):
        state = tf.bitwise.bitwise_xor(state, tf.bitwise.right_shift(state, tf.constant(shift, tf.uint64)))
        state *= tf.constant(factor, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, tf.bitwise.right_shift(state, tf.constant(31, tf.uint64)))
    return tf.cast(tf.bitwise.right_shift(state, tf.constant(40, tf.uint64)), tf.float32) / 2**24


def _padded(columns, width):
    return tf.pad(columns, [[0, 0], [0, width - tf.shape(columns)[1]]], constant_values=-1)
