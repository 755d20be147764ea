"""Each similarity against a loop that a pencil can follow, and the orders that must agree."""

import numpy as np
import pytest
from scipy.spatial import distance

from trainer.keras import tf
from trainer.similarity import SIMILARITIES, CrossAttention, nearest, similarity

ORACLES = {
    "dot": lambda a, b: float(sum(x * y for x, y in zip(a, b))),
    "cosine": lambda a, b: 1 - distance.cosine(a, b),
    "euclidean": lambda a, b: -distance.sqeuclidean(a, b),
    "hamming": lambda a, b: -len(a) * distance.hamming(np.signbit(a), np.signbit(b)),
}


def _vectors(seed, count, dim=6):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_every_pair_equals_the_oracle(name):
    queries, candidates = _vectors(0, 4), _vectors(1, 7)
    expected = [[ORACLES[name](query, candidate) for candidate in candidates] for query in queries]
    np.testing.assert_allclose(similarity(name)(queries, candidates), expected, atol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_vector_is_most_like_itself_among_unit_vectors(name):
    vectors = _vectors(2, 9)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = similarity(name)(vectors, vectors).numpy()
    assert (np.diag(scores) >= scores.max(1) - 1e-6).all()


def test_of_unit_vectors_distance_and_angle_give_one_order():
    queries, candidates = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (_vectors(3, 5), _vectors(4, 20)))
    orders = [nearest(name, queries, candidates, 20)[1].numpy() for name in ("dot", "cosine", "euclidean")]
    assert (orders[0] == orders[1]).all() and (orders[0] == orders[2]).all()


@pytest.mark.parametrize("name", SIMILARITIES)
def test_the_nearest_are_those_of_a_full_sort(name):
    queries, candidates = _vectors(5, 3), _vectors(6, 12)
    scores, positions = nearest(name, queries, candidates, 5)
    every = similarity(name)(queries, candidates).numpy()
    assert positions.numpy().tolist() == np.argsort(-every, 1, kind="stable")[:, :5].tolist()
    np.testing.assert_allclose(scores, np.take_along_axis(every, positions.numpy(), 1))


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="got 'manhattan', expected one of dot, cosine, euclidean, hamming"):
        similarity("manhattan")
    with pytest.raises(ValueError, match="k: got 4, expected at most the 3 candidates"):
        nearest("dot", _vectors(0, 1), _vectors(1, 3), 4)


def test_a_zero_vector_is_like_nothing():
    assert np.isfinite(similarity("cosine")(np.zeros((1, 3), np.float32), _vectors(0, 2, 3))).all()


@pytest.fixture()
def attention():
    tf.keras.utils.set_random_seed(1)
    layer = CrossAttention(4)
    layer(tf.ones([1, 4]), tf.ones([1, 1, 4]), tf.ones([1, 1, 4]))
    return layer


def test_the_learned_similarity_starts_as_the_dot_product(attention):
    query, candidates, history = _vectors(0, 1, 4), _vectors(1, 3, 4)[None], _vectors(2, 5, 4)[None]
    np.testing.assert_allclose(attention(query, candidates, history), query @ candidates[0].T, atol=1e-5)


def test_cross_attention_is_the_loop_over_candidates_and_history(attention):
    attention.value.kernel.assign(_vectors(7, 4, 4))
    query, candidates, history = _vectors(0, 1, 4), _vectors(1, 3, 4), _vectors(2, 5, 4)
    history[4] = 0  # padding
    ask, offer, value = (layer.kernel.numpy() for layer in (attention.ask, attention.offer, attention.value))
    expected = []
    for candidate in candidates:
        match = np.array([(candidate @ ask) @ (item @ offer) / 2 for item in history[:4]])
        shares = np.exp(match) / np.exp(match).sum()
        attended = sum(share * (item @ value) for share, item in zip(shares, history[:4]))
        expected.append((query[0] + attended) @ candidate)
    np.testing.assert_allclose(attention(query, candidates[None], history[None])[0], expected, atol=1e-5)


def test_without_a_history_it_is_the_dot_product(attention):
    attention.value.kernel.assign(_vectors(7, 4, 4))
    query, candidates = _vectors(0, 1, 4), _vectors(1, 3, 4)[None]
    np.testing.assert_allclose(attention(query, candidates, tf.zeros([1, 2, 4])), query @ candidates[0].T, atol=1e-5)
