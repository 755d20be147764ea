"""Re-ranking of scored candidates: a cap for each creator, maximal marginal relevance, exploration. In the graph, each
request on its own.

B requests, C candidates, K positions of the list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.online.candidates import cap_or_all

RANKED, SIMILAR, NEW_PERSON, DIVERSE, EXPLORED = range(5)
REASONS = ("ranked", "similar", "new_person", "diverse", "explored")
_COSINES_AT_ONCE = 2**25  # float32 cosines of all pairs of candidates: 128 MiB
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class RerankOptions(NamedTuple):
    """How a list is put together, a value a request."""

    mmr_lambda: tf.Tensor  # float32 [B], 1 = relevance alone, 0 = novelty alone
    max_per_creator: tf.Tensor  # int32 [B], at most so many items of a creator; 0 = any number
    exploration_rate: tf.Tensor  # float32 [B], 0 to 1: the chance of each position to go to any candidate
    seed: tf.Tensor  # int32 [B], of that chance


def rerank_specs(dim: int) -> list:
    """The shapes and types of the arguments of `mmr_rerank`, of vectors of so many dimensions."""
    floats, codes = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)
    return [
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None, None, dim], tf.float32),
        tf.TensorSpec([None, None], tf.int64),
        RerankOptions(floats, codes, floats, codes),
        tf.TensorSpec([], tf.int32),
    ]


def mmr_rerank(utility, items, vectors, creators, options: RerankOptions, width):
    """Fill the positions of a list one after the other by maximal marginal relevance (Carbonell & Goldstein, 1998).

    A position goes to the candidate of the highest lambda u - (1 - lambda) s, with u the utility on a scale from 0 to 1
    among the candidates and s the largest cosine to an item already in the list, or, with the chance
    `exploration_rate`, to the one of the highest random number. Both never go beyond the cap of a creator.

    utility: float32 [B, C].
    items: int32 [B, C], -1 = no candidate.
    vectors: float32 [B, C, dim], unit norm.
    creators: int64 [B, C], -1 = none.
    width: int32, K.
    Returns columns int32 [B, K] (-1 beyond the last), and whether each was `DIVERSE` or `EXPLORED` or neither (-1).
    """
    is_plain = (options.mmr_lambda >= 1) & (options.max_per_creator <= 0) & (options.exploration_rate <= 0)
    return tf.cond(
        tf.reduce_all(is_plain),
        lambda: _by_utility(utility, items, width),
        lambda: _greedily(utility, items, vectors, creators, options, width),
    )


def _by_utility(utility, items, width):
    scores, columns = tf.math.top_k(tf.where(items >= 0, utility, -np.inf), tf.minimum(width, tf.shape(utility)[1]))
    columns = _padded(tf.where(scores == -np.inf, -1, columns), width)
    return columns, tf.fill(tf.shape(columns), -1)


def _greedily(utility, items, vectors, creators, options: RerankOptions, width):
    is_there = items >= 0
    lowest = tf.reduce_min(tf.where(is_there, utility, np.inf), 1, keepdims=True)
    highest = tf.reduce_max(tf.where(is_there, utility, -np.inf), 1, keepdims=True)
    scaled = tf.where(is_there & (highest > lowest), (utility - lowest) / (highest - lowest), 0.0)
    random = uniform(options.seed[:, None], items)  # [B, C]
    batch, number = tf.unstack(tf.shape(utility))
    steps = tf.minimum(width, number)
    luck = uniform(options.seed[None], -1 - tf.range(1, steps + 1)[:, None])  # [steps, B]
    explores = luck < options.exploration_rate[None]
    relevance, novelty_weight = options.mmr_lambda[:, None] * scaled, 1 - options.mmr_lambda[:, None]
    # An item without a creator counts as a creator of its own, capped at one as every item is.
    alone = tf.broadcast_to(-2 - tf.range(number, dtype=creators.dtype)[None], tf.shape(creators))
    groups = tf.where(creators < 0, alone, creators)
    cap = tf.cast(cap_or_all(options.max_per_creator), tf.float32)[:, None]
    taken = tf.where(
        is_there, 0.0, np.inf
    )  # items of the same creator in the list; infinite for those in it themselves

    def fill(cosines_to):
        """The loop; cosines_to: columns int32 [B] -> float32 [B, C]. It holds few ops: each is run for each
        position.
        """

        def position(step, redundancy, taken, best_at, plain_at, is_any):
            is_open = taken < cap
            scores = tf.where(is_open, tf.where(explores[step][:, None], random, relevance - redundancy), -np.inf)
            best = tf.argmax(scores, 1, tf.int32)
            plain = tf.argmax(tf.where(is_open, scaled, -np.inf), 1, tf.int32)
            by_same = tf.cast(tf.equal(groups, tf.gather(groups, best, batch_dims=1)[:, None]), tf.float32)
            return (
                step + 1,
                tf.maximum(redundancy, novelty_weight * cosines_to(best)),
                taken + by_same + tf.one_hot(best, number, np.inf, 0.0),
                best_at.write(step, best),
                plain_at.write(step, plain),
                is_any.write(step, tf.reduce_any(is_open, 1)),
            )

        arrays = [tf.TensorArray(dtype, steps, element_shape=[None]) for dtype in (tf.int32, tf.int32, tf.bool)]
        start = (0, tf.broadcast_to(-novelty_weight, tf.shape(utility)), taken, *arrays)
        *_, best_at, plain_at, is_any = tf.while_loop(lambda step, *_: step < steps, position, start)
        return tuple(array.stack() for array in (best_at, plain_at, is_any))

    def from_table():
        cosines = tf.matmul(vectors, vectors, transpose_b=True)  # [B, C, C]
        return fill(lambda best: tf.gather(cosines, best, batch_dims=1))

    def one_at_a_time():
        return fill(lambda best: tf.linalg.matvec(vectors, tf.gather(vectors, best, batch_dims=1)))

    fits = tf.cast(batch, tf.int64) * tf.cast(number, tf.int64) ** 2 <= _COSINES_AT_ONCE
    best, plain, is_any = tf.cond(fits, from_table, one_at_a_time)  # [steps, B]
    reasons = tf.where(explores, EXPLORED, tf.where(best == plain, -1, DIVERSE))
    return tuple(_padded(tf.transpose(tf.where(is_any, values, -1)), width) for values in (best, reasons))


def uniform(seed, number):
    """A number from 0 to 1 that depends on seed and number alone (int32, broadcast), whatever else is in the batch:
    SplitMix64's mixer.
    """
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
