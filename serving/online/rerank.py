"""From scored candidates to the page: a cap for each creator, diversity, exploration. In the graph, each request on its own.

B requests, C candidates, K places of the page, D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.online.candidates import cap_or_all

RANKED, SIMILAR, NEW_PERSON, DIVERSE, EXPLORED = range(5)
REASONS = ("ranked", "similar", "new_person", "diverse", "explored")
_LIKENESSES_AT_ONCE = 2**25  # float32 cosines of all pairs of candidates: 128 MiB
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
    batch, number = tf.unstack(tf.shape(utility))
    steps = tf.minimum(width, number)
    luck = uniform(wishes.seed[None], -1 - tf.range(1, steps + 1)[:, None])  # [steps, B]
    explores = luck < wishes.explore_share[None]
    share = wishes.diversity[:, None]
    worth = (1 - share) * scaled
    alone = tf.broadcast_to(-2 - tf.range(number, dtype=creators.dtype)[None], tf.shape(creators))
    groups = tf.where(
        creators < 0, alone, creators
    )  # who has no creator is a creator of their own, capped at one as every item is
    cap = tf.cast(cap_or_all(wishes.of_creator), tf.float32)[:, None]
    taken = tf.where(
        is_there, 0.0, np.inf
    )  # items of the same creator on the page; infinite for what is on the page itself, or nothing

    def fill(likeness_to):
        """The loop; likeness_to: columns int32 [B] -> cosines float32 [B, C]. It holds as few ops as it can: each is run for each place."""

        def place(step, cost, taken, best_at, plain_at, is_any):
            is_open = taken < cap
            scores = tf.where(is_open, tf.where(explores[step][:, None], chance, worth - cost), -np.inf)
            best = tf.argmax(scores, 1, tf.int32)
            plain = tf.argmax(tf.where(is_open, scaled, -np.inf), 1, tf.int32)
            by_same = tf.cast(tf.equal(groups, tf.gather(groups, best, batch_dims=1)[:, None]), tf.float32)
            return (
                step + 1,
                tf.maximum(cost, share * likeness_to(best)),
                taken + by_same + tf.one_hot(best, number, np.inf, 0.0),
                best_at.write(step, best),
                plain_at.write(step, plain),
                is_any.write(step, tf.reduce_any(is_open, 1)),
            )

        arrays = [tf.TensorArray(dtype, steps, element_shape=[None]) for dtype in (tf.int32, tf.int32, tf.bool)]
        start = (0, tf.broadcast_to(-share, tf.shape(utility)), taken, *arrays)
        *_, best_at, plain_at, is_any = tf.while_loop(lambda step, *_: step < steps, place, start)
        return tuple(array.stack() for array in (best_at, plain_at, is_any))

    def from_table():
        likeness = tf.matmul(vectors, vectors, transpose_b=True)  # [B, C, C]
        return fill(lambda best: tf.gather(likeness, best, batch_dims=1))

    def one_at_a_time():
        return fill(lambda best: tf.linalg.matvec(vectors, tf.gather(vectors, best, batch_dims=1)))

    fits = tf.cast(batch, tf.int64) * tf.cast(number, tf.int64) ** 2 <= _LIKENESSES_AT_ONCE
    best, plain, is_any = tf.cond(fits, from_table, one_at_a_time)  # [steps, B]
    reasons = tf.where(explores, EXPLORED, tf.where(best == plain, -1, DIVERSE))
    return tuple(_padded(tf.transpose(tf.where(is_any, values, -1)), width) for values in (best, reasons))


def uniform(seed, number):
    """A number from 0 to 1 that depends on seed and number alone (int32, broadcast), whatever else is in the batch: SplitMix64's mixer."""
    state = tf.cast(tf.cast(seed, tf.int64), tf.uint64) * tf.constant(_GOLDEN, tf.uint64) + tf.cast(
        tf.cast(number, tf.int64), tf.uint64
    )
    state = state * tf.constant(_GOLDEN, tf.uint64) + tf.constant(_GOLDEN, tf.uint64)
    for shift, factor in zip((30, 27), _MIX):
        state = tf.bitwise.bitwise_xor(state, tf.bitwise.right_shift(state, tf.constant(shift, tf.uint64)))
        state *= tf.constant(factor, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, tf.bitwise.right_shift(state, tf.constant(31, tf.uint64)))
    return tf.cast(tf.bitwise.right_shift(state, tf.constant(40, tf.uint64)), tf.float32) / 2**24


def _padded(columns, width):
    return tf.pad(columns, [[0, 0], [0, width - tf.shape(columns)[1]]], constant_values=-1)
