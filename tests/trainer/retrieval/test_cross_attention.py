"""Candidates that look at a history: by pencil on three by three, then learned where that tells something and where it
does not.
"""

import numpy as np
import pytest

from components.datasets.interactions import Interactions
from trainer.config.retrieval import RetrievalConfig
from trainer.keras import tf
from trainer.retrieval.cross_attention import CrossAttention
from trainer.retrieval.train_cross_attention import Queries, Validation, fit_cross_attention

DIM, PEOPLE = 8, 200
THREE = np.eye(3, dtype=np.float32)


def _vectors(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture()
def attention():
    """A match of ln 2 for each with itself, and what is in the first dimension is worth 1 to the second."""
    layer = CrossAttention(3)
    layer.match.assign(np.log(2) * THREE)
    layer.worth.assign([[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    return layer


def test_three_candidates_and_a_history_of_three_by_hand(attention):
    """Each candidate weighs itself 2, the others 1 each: the second gives the first of the history a share of 1/4,
    worth 1.
    """
    np.testing.assert_allclose(attention(THREE[:1], THREE[None], THREE[None])[0], [1, 1 / 4, 0], atol=1e-6)


def test_what_is_padded_takes_no_share(attention):
    """Of the first and the second alone, shares are 1/3 and 2/3; the first by itself has all, and in any order."""
    for rows, share in (([0, 1], 1 / 3), ([1, 0], 1 / 3), ([0], 1)):
        history = np.concatenate([THREE[rows], np.zeros((2, 3), np.float32)])
        np.testing.assert_allclose(attention(THREE[:1], THREE[None], history[None])[0], [1, share, 0], atol=1e-6)


@pytest.mark.parametrize("length", [0, 2])
def test_without_a_history_it_is_the_dot_product(attention, length):
    query, candidates = _vectors(0, 2, 3), _vectors(1, 2, 4, 3)
    scores = attention(query, candidates, tf.zeros([2, length, 3]))
    np.testing.assert_allclose(scores, np.einsum("qd,qcd->qc", query, candidates), atol=1e-5)


def test_it_starts_as_the_dot_product():
    query, candidates, history = _vectors(0, 2, 5), _vectors(1, 2, 4, 5), _vectors(2, 2, 3, 5)
    np.testing.assert_allclose(
        CrossAttention(5)(query, candidates, history), np.einsum("qd,qcd->qc", query, candidates), atol=1e-5
    )


def test_it_is_the_loop_over_candidates_and_history():
    layer = CrossAttention(4)
    layer.match.assign(_vectors(3, 4, 4))
    layer.worth.assign(_vectors(4, 4, 4))
    query, candidates, history = _vectors(0, 1, 4), _vectors(1, 3, 4), _vectors(2, 5, 4)
    expected = []
    for candidate in candidates:
        match = np.exp([item @ layer.match.numpy() @ candidate for item in history])
        worth = [item @ layer.worth.numpy() @ candidate for item in history]
        expected.append(query[0] @ candidate + (match / match.sum()) @ worth)
    np.testing.assert_allclose(layer(query, candidates[None], history[None])[0], expected, rtol=1e-4)


class Towers:
    """A person is the mean of what they took."""

    config, history_length = RetrievalConfig(embedding_dim=DIM), 100

    def encode_users(self, vectors, items, events, age_s, users):
        taken = tf.gather(vectors, tf.maximum(items, 0)) * tf.cast(items >= 0, tf.float32)[..., None]
        return tf.math.l2_normalize(tf.reduce_sum(taken, 1), -1)


def _sequences(items, num_history, first_id=0):
    flat, count = np.concatenate(items).astype(np.int32), sum(map(len, items))
    return Interactions(
        user_ids=[f"u{first_id + row}" for row in range(len(items))],
        splits=np.cumsum([0, *map(len, items)]),
        items=flat,
        events=np.full(count, 2, np.int32),
        event_names=("play",),
        times_s=10.0 * np.arange(1, count + 1),
        weights=np.ones(count, np.float32),
        positives=np.ones(count, bool),
        values=np.full(count, np.nan, np.float32),
        num_history=np.full(len(items), num_history),
        ordered=np.ones(len(items), bool),
    )


def _people(seed):
    """Each takes three pairs: an item of a kind of the first four, each kind once, then one of its partner kind. Four
    items a kind.
    """
    generator = np.random.default_rng(seed)
    kinds = [
        [kind for first in generator.choice(DIM // 2, 3, replace=False) for kind in (first, first + DIM // 2)]
        for _ in range(PEOPLE)
    ]
    return [4 * np.array(row) + generator.integers(0, 4, len(row)) for row in kinds]


def _fitted(people, others):
    vectors = np.repeat(np.eye(DIM), 4, 0) + 0.1 * np.random.default_rng(9).normal(size=(4 * DIM, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return fit_cross_attention(Towers(), vectors, _sequences(people, 0), _sequences(others, 1, PEOPLE)), vectors


def test_it_learns_what_goes_with_what_where_the_dot_product_cannot_tell():
    """Kind k goes with kind k + 4, at a right angle to it: after items of kind 0 those of kind 4 are better than those
    of kind 6.
    """
    attention, vectors = _fitted(_people(1), _people(2))
    candidates, history = vectors[[16, 17, 18, 19, 24, 25, 26, 27]], vectors[:1]
    learned = attention(history, candidates[None], history[None]).numpy()[0]
    more = learned - candidates @ history[0]
    assert more[:4].mean() > more[4:].mean() + 0.05 and learned[:4].mean() > learned[4:].mean() + 0.05


def test_it_stays_the_dot_product_where_a_history_tells_nothing():
    """People take anything."""
    generator = np.random.default_rng(3)
    attention, _ = _fitted(*([generator.integers(0, 4 * DIM, 6) for _ in range(PEOPLE)] for _ in range(2)))
    assert not attention.worth.numpy().any()


def test_it_stays_the_dot_product_where_nothing_can_be_judged():
    """Nobody has a second interaction."""
    lonely = _sequences([np.array([row]) for row in range(4)], 0)
    attention = fit_cross_attention(Towers(), np.eye(DIM, dtype=np.float32), lonely, lonely)
    assert not attention.worth.numpy().any()


def test_what_a_query_has_taken_is_in_no_list_of_validation():
    """Of 20 items each of 20 people has taken ten: a similarity to those alone raises nothing but those."""
    generator = np.random.default_rng(5)
    orders = np.array([generator.permutation(20) for _ in range(20)], np.int32)
    queries = Queries(np.arange(20), orders[:, 10], _vectors(6, 20, 20), orders[:, :10], np.full(20, np.nan))
    attention = CrossAttention(20)
    validation = Validation(attention, np.eye(20, dtype=np.float32), queries, np.full(20, -np.inf))
    plain = validation.values()
    attention.worth.assign(10 * np.eye(20))
    np.testing.assert_array_equal(validation.values(), plain)
    assert plain.min() >= 1 / np.log2(1 + 10)
