"""Training of the learned similarity, on the trained towers.

Q queries, C candidates, L interactions of a history, N items, D dimensions.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from components.datasets.interactions import Interactions, window
from trainer.evaluation.highest import first_k
from trainer.keras import tf
from trainer.loop import ProgressBar, Stopping, run_epochs
from trainer.retrieval.cross_attention import HIDDEN, RECENT, CrossAttention
from trainer.retrieval.losses import sampling_probability
from trainer.retrieval.model import Retrieval

_HELD_OUT = 0.3  # share of the users of the train split that it is not trained on
_MOST_QUERIES = 8_192  # to train on, and likewise to validate on
_OF_A_USER = 8  # queries
_BATCH = 64  # queries of a step
_UNIFORM = 64  # negatives beside those of the batch
_EPOCHS = 8  # at most
_PATIENCE = 2  # epochs without a better value before training stops
_LEARNING_RATE = 3e-3
_TEMPERATURE = 0.1  # of the logits at the start; learned
_LISTED = 100  # items of retrieval's list, which are ranked in validation
_AT_ONCE = 256  # queries
_SURE = 2.58  # standard errors by which it must beat the dot product: the best of several epochs often does by two


@dataclass(frozen=True)
class Queries:
    """Positive interactions, each with its user's history before it."""

    users: np.ndarray  # int64 [Q], rows of the split
    targets: np.ndarray  # int32 [Q], rows of the items
    vectors: np.ndarray  # float32 [Q, D], of the user tower
    history: np.ndarray  # int32 [Q, L], L at most RECENT, rows of the items, oldest first, -1 where padded
    asked_at_s: np.ndarray  # float64 [Q], seconds since 1970, NaN where unknown


def fit_cross_attention(
    model: Retrieval,
    vectors: np.ndarray,
    train_split: Interactions,
    eval_split: Interactions,
    available_from_s: np.ndarray | None = None,
) -> CrossAttention:
    """Trains cross-attention by a sampled softmax with log-Q correction; it stays the dot product where it is not
    surely better.

    Negatives are the other targets of the batch and a uniform sample. The target's NDCG within retrieval's list decides
    when training stops: over users that it was not trained on, in the eval split, where it has such users, else in the
    train split.
    vectors: float32 [N, D], of all items. available_from_s: float64 [N], before which an item is in no list of
    validation; None = all are there.
    """
    from_s = np.full(len(vectors), -np.inf) if available_from_s is None else available_from_s
    attention = CrossAttention(vectors.shape[1], name="cross_attention")
    as_dot = attention.get_weights()
    generator = np.random.default_rng(model.config.seed)
    users = generator.permutation(len(train_split))
    held_out, others = np.split(users, [int(np.ceil(_HELD_OUT * len(users)))])
    queries = queries_of(model, vectors, train_split, others, generator)
    names = {train_split.user_ids[user] for user in others}
    unknown = np.array([user for user, user_id in enumerate(eval_split.user_ids) if user_id not in names], np.int64)
    split, chosen = (eval_split, generator.permutation(unknown)) if len(unknown) else (train_split, held_out)
    validation = Validation(attention, vectors, queries_of(model, vectors, split, chosen, generator), from_s)
    if not (len(queries.users) and validation.has_users):
        return attention
    training = Training(attention, vectors, queries, train_split.counts(len(vectors)))
    plain = validation.values()
    stopping = Stopping("NDCG", lambda: float(validation.values().mean()), _PATIENCE, start_value=float(plain.mean()))
    bar = ProgressBar("cross-attention")
    run_epochs(lambda epoch: training.epoch(generator), attention.variables, _EPOCHS, stopping, [bar])
    best = validation.values()
    gain, error = validation.gain(best - plain)
    is_sure = gain > _SURE * error
    if not is_sure:
        attention.set_weights(as_dot)
    logging.info(
        "cross-attention: NDCG@%d %.4f, of the dot product %.4f, over users %+.4f with a standard error of %.4f: %s",
        _LISTED, best.mean(), plain.mean(), gain, error, "kept" if is_sure else "stays the dot product",
    )  # fmt: skip
    return attention


def queries_of(
    model: Retrieval, vectors: np.ndarray, sequences: Interactions, users: np.ndarray, generator: np.random.Generator
) -> Queries:
    """Draws positive interactions with a history before them, some of each user in the given order, until there are
    enough.

    vectors: float32 [N, D], of all items.
    users: int [B], rows of `sequences`.
    """
    chosen: list[tuple[int, int]] = []
    for user in users:
        first, stop = sequences.splits[user] + max(int(sequences.num_history[user]), 1), sequences.splits[user + 1]
        at = first + np.flatnonzero(sequences.positives[first:stop])
        chosen += [(user, place) for place in generator.permutation(at)[:_OF_A_USER]]
        if len(chosen) >= _MOST_QUERIES:
            break
    rows, places = np.array(chosen[:_MOST_QUERIES], np.int64).reshape(-1, 2).T
    stops = places - sequences.splits[rows]
    encoded = [np.zeros((0, vectors.shape[1]), np.float32)]
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        known = window(sequences, rows[part], stops[part], model.history_length)
        inputs = (known.items, known.events, known.age_s, sequences.feature_rows(rows[part]))
        encoded.append(model.encode_users(tf.constant(vectors), *map(tf.constant, inputs)).numpy())
    recent = window(sequences, rows, stops, min(RECENT, model.history_length)).items
    targets = np.asarray(sequences.items[places], np.int32)
    return Queries(rows, targets, np.concatenate(encoded), recent, sequences.asked_at_s(rows, stops))


class Training:
    """Steps over queries, in a new order each epoch."""

    def __init__(self, attention: CrossAttention, vectors: np.ndarray, queries: Queries, counts: np.ndarray):
        """counts: int [N], positive interactions of each item; one without any is never a target, and no negative."""
        self._attention, self._vectors, self._queries = attention, tf.constant(vectors), queries
        self._drawn_from, self._share = np.flatnonzero(counts), tf.constant(counts / counts.sum(), tf.float32)
        self._inverse_temperature = tf.Variable(1 / _TEMPERATURE)
        self._weights = [*attention.trainable_variables, self._inverse_temperature]
        self._optimizer = tf.keras.optimizers.Adam(_LEARNING_RATE)
        self._optimizer.build(self._weights)

    def epoch(self, generator: np.random.Generator) -> None:
        """Trains on all queries once, but for the last that fill no batch."""
        queries = self._queries
        size = min(_BATCH, len(queries.users))
        order = generator.permutation(len(queries.users))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            negatives = generator.choice(self._drawn_from, _UNIFORM)
            items = np.concatenate([queries.targets[rows], negatives]).astype(np.int32)
            self._step(*map(tf.constant, (queries.vectors[rows], queries.history[rows], items)))

    @tf.function(reduce_retracing=True)
    def _step(self, query, history, items):
        """Takes one step. query: float [Q, D]. history: int32 [Q, L]. items: int32 [C], the targets first."""
        size = tf.shape(query)[0]
        is_right = tf.range(tf.shape(items)[0])[None] == tf.range(size)[:, None]  # [Q, C]
        is_same = (items[None] == items[:size, None]) | tf.reduce_any(items[None, :, None] == history[:, None], 2)
        probability = sampling_probability(tf.gather(self._share, items), len(self._drawn_from), size, _UNIFORM)
        candidates = tf.repeat(tf.gather(self._vectors, items)[None], size, 0)
        with tf.GradientTape() as tape:
            scores = self._attention(query, candidates, _of_history(self._vectors, history))
            logits = tf.where(
                is_same & ~is_right, HIDDEN, self._inverse_temperature * scores - tf.math.log(probability)
            )
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(size), logits))
        self._optimizer.apply_gradients(zip(tape.gradient(loss, self._weights), self._weights))


class Validation:
    """Ranks retrieval's list of each query anew; queries whose list does not hold the target do not count."""

    def __init__(self, attention: CrossAttention, vectors: np.ndarray, queries: Queries, available_from_s: np.ndarray):
        """available_from_s: float64 [N], from when on an item is in a list."""
        three = tf.TensorSpec([None, None, vectors.shape[1]])
        self._score = tf.function(
            lambda *parts: attention(*parts), input_signature=[tf.TensorSpec([None, vectors.shape[1]]), three, three]
        )
        self._vectors = tf.constant(vectors)
        length = min(_LISTED, len(vectors))
        lists, hidden = [np.zeros((0, length), np.int64)], [np.zeros((0, length), bool)]
        for start in range(0, len(queries.users), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            scores = queries.vectors[part] @ vectors.T
            scores[available_from_s > queries.asked_at_s[part, None]] = -np.inf
            is_known = (queries.history[part] >= 0) & (queries.history[part] != queries.targets[part, None])
            rows, columns = np.nonzero(is_known)
            scores[rows, queries.history[part][rows, columns]] = -np.inf
            lists.append(first_k(scores, length))
            hidden.append(np.take_along_axis(scores, lists[-1], 1) == -np.inf)  # there are fewer than `length` others
        listed, is_hidden = np.concatenate(lists), np.concatenate(hidden)
        is_target = listed == queries.targets[:, None]
        holds = is_target.any(1) & ~(available_from_s[queries.targets] > queries.asked_at_s)
        self._lists, self._places, self._is_hidden = listed[holds], is_target[holds].argmax(1), is_hidden[holds]
        self._queries, self._history = queries.vectors[holds], queries.history[holds]
        _, self._users = np.unique(queries.users[holds], return_inverse=True)
        self.has_users = len(np.unique(self._users)) > 1  # enough for a standard error

    def values(self) -> np.ndarray:
        """NDCG of each list, in which the target alone is relevant: float [Q]."""
        found = []
        for start in range(0, len(self._lists), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            candidates = tf.gather(self._vectors, self._lists[part])
            history = _of_history(self._vectors, self._history[part])
            scores = self._score(tf.constant(self._queries[part]), candidates, history).numpy()
            scores = np.where(self._is_hidden[part], -np.inf, scores)
            of_target = np.take_along_axis(scores, self._places[part, None], 1)
            found.append(1 / np.log2(1 + (scores >= of_target).sum(1)))
        return np.concatenate(found)

    def gain(self, values: np.ndarray) -> tuple[float, float]:
        """The mean over users of a value for each query, float [Q], and its standard error."""
        means = np.bincount(self._users, values) / np.bincount(self._users)
        return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def _of_history(vectors, history):
    """Item vectors of a history: float [Q, L, D], zeros where padded. history: int [Q, L], -1 where padded."""
    return tf.gather(vectors, tf.maximum(history, 0)) * tf.cast(history >= 0, tf.float32)[..., None]
