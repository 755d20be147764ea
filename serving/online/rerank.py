"""Re-ranking of scored candidates: a cap for each creator, maximal marginal relevance, exploration. In the graph, each
request on its own.

B requests, C candidates, K positions of the list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.online.candidates import cap_or_all, rank_in_group

RANKED, SIMILAR, NEW_PERSON, DIVERSE, EXPLORED = range(5)
REASONS = ("ranked", "similar", "new_person", "diverse", "explored")
_COSINES_AT_ONCE = 2**24  # float32 numbers of all pairs of candidates: 64 MiB a table, and there are three
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
    novelty_weight = 1 - options.mmr_lambda[:, None]
    relevance = options.mmr_lambda[:, None] * scaled
    # An item without a creator counts as a creator of its own, capped at one as every item is.
    alone = tf.broadcast_to(-2 - tf.range(number, dtype=creators.dtype)[None], tf.shape(creators))
    groups = tf.where(creators < 0, alone, creators)
    most = cap_or_all(options.max_per_creator)[:, None]
    cap = tf.cast(most, tf.float32)
    none_taken = tf.where(is_there, 0.0, np.inf)

    def fill(beside):
        """The loop. It holds few ops and carries few tensors: each costs something for each position.

        beside: columns int32 [B] -> what a candidate in the list leaves the others, float32 [B, C] each: at most their
        relevance less their redundancy to it, and what it adds to the items taken of their creator (infinite for
        itself).
        Returns for each position the column chosen, and that of the most useful one left: int32 [steps, 2, B].
        """
        chances = explores[:, :, None]

        def position(step, value, taken, chosen):
            scores = tf.where(tf.gather(chances, step), random, value)
            is_open = taken < cap
            best, plain = (tf.argmax(tf.where(is_open, by, -np.inf), 1, tf.int32) for by in (scores, scaled))
            value_beside, taken_beside = beside(best)
            return (
                step + 1, tf.minimum(value, value_beside), taken + taken_beside,
                chosen.write(step, tf.stack([best, plain])),
            )  # fmt: skip

        chosen = tf.TensorArray(tf.int32, steps, element_shape=[2, None])
        start = (0, relevance + novelty_weight, none_taken, chosen)  # as if everything were the opposite of the list
        *_, chosen = tf.while_loop(lambda step, *_: step < steps, position, start, parallel_iterations=1)
        return chosen.stack()

    def from_tables():
        cosines = tf.matmul(vectors, vectors, transpose_b=True)  # [B, C, C]
        values = relevance[:, None] - novelty_weight[:, None] * cosines
        is_same = tf.cast(tf.equal(groups[:, None], groups[:, :, None]), tf.float32)
        counts = tf.linalg.set_diag(is_same, tf.fill(tf.shape(groups), np.float32(np.inf)))
        return fill(lambda best: [tf.gather(table, best, batch_dims=1) for table in (values, counts)])

    def one_at_a_time():
        def beside(best):
            cosines = tf.linalg.matvec(vectors, tf.gather(vectors, best, batch_dims=1))
            is_same = tf.equal(groups, tf.gather(groups, best, batch_dims=1)[:, None])
            counts = tf.cast(is_same, tf.float32) + tf.one_hot(best, number, np.inf, 0.0)
            return relevance - novelty_weight * cosines, counts

        return fill(beside)

    fits = tf.cast(batch, tf.int64) * tf.cast(number, tf.int64) ** 2 <= _COSINES_AT_ONCE
    best, plain = tf.unstack(tf.cond(fits, from_tables, one_at_a_time), axis=1)  # [steps, B]
    reasons = tf.where(explores, EXPLORED, tf.where(best == plain, -1, DIVERSE))
    is_within = is_there & (rank_in_group(tf.where(is_there, 0.0, -np.inf), creators) < most)
    is_filled = tf.range(steps)[:, None] < tf.reduce_sum(tf.cast(is_within, tf.int32), 1)[None]
    return tuple(_padded(tf.transpose(tf.where(is_filled, values, -1)), width) for values in (best, reasons))


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
