"""Each similarity against a loop that a pencil can follow, and the orders that must agree."""

import numpy as np
import pytest
from scipy.spatial import distance

from trainer.retrieval.similarity import SIMILARITIES

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
    np.testing.assert_allclose(SIMILARITIES[name](queries, candidates), expected, atol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_each_query_may_have_candidates_of_its_own(name):
    queries, candidates = _vectors(0, 3), _vectors(1, 12).reshape(3, 4, 6)
    together = SIMILARITIES[name](queries[:, None], candidates)[:, 0]
    singly = [SIMILARITIES[name](queries[row : row + 1], candidates[row])[0] for row in range(3)]
    np.testing.assert_allclose(together, singly, atol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_vector_is_most_like_itself_among_unit_vectors(name):
    vectors = _vectors(2, 9)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = SIMILARITIES[name](vectors, vectors).numpy()
    assert (np.diag(scores) >= scores.max(1) - 1e-6).all()


def test_of_unit_vectors_distance_and_angle_give_one_order():
    queries, candidates = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (_vectors(3, 5), _vectors(4, 20))
    )
    orders = [
        np.argsort(-SIMILARITIES[name](queries, candidates).numpy(), 1) for name in ("dot", "cosine", "euclidean")
    ]
    assert (orders[0] == orders[1]).all() and (orders[0] == orders[2]).all()


def test_a_zero_vector_is_like_nothing():
    assert not SIMILARITIES["cosine"](np.zeros((1, 3), np.float32), _vectors(0, 2, 3)).numpy().any()
