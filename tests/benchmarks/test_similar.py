"""How near listed neighbours are to true ones, counted item by item."""

import numpy as np
import pytest

from benchmarks.similar import CUTOFF, METRICS, nearness

RANDOM = np.random.default_rng(0)
TRAITS = RANDOM.normal(size=(40, 5))


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def nearest(values, row):
    others = [other for other in range(len(values)) if other != row]
    return sorted(others, key=lambda other: -cosine(values[row], values[other]))[:CUTOFF]


def test_true_vectors_of_any_length_find_every_true_neighbour():
    found = nearness(TRAITS * RANDOM.uniform(0.1, 9, (40, 1)), TRAITS)
    np.testing.assert_array_equal(found[METRICS[0]], 1)


def test_others_are_counted_item_by_item():
    vectors = TRAITS + RANDOM.normal(size=TRAITS.shape)
    found = nearness(vectors, TRAITS)
    for row in range(len(TRAITS)):
        listed = nearest(vectors, row)
        assert found[METRICS[0]][row] == pytest.approx(len({*listed} & {*nearest(TRAITS, row)}) / CUTOFF)
        assert found["likeness"][row] == pytest.approx(
            np.mean([cosine(TRAITS[row], TRAITS[other]) for other in listed])
        )
    assert 0.2 < found[METRICS[0]].mean() < 0.9


def test_a_vector_of_nothing_has_neighbours_like_any_other():
    assert np.isfinite(np.stack([*nearness(np.zeros((40, 4)), TRAITS).values()])).all()
