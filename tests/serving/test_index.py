"""One test class for both kinds of index, against numpy."""

import numpy as np
import pytest
import tensorflow as tf

from serving import index as index_lib
from serving.config import IndexConfig
from serving.offline import build_index


def unit_vectors(count, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(kind, vectors, **settings):
    return build_index.build_vector_index(
        vectors, [f"i{row}" for row in range(len(vectors))], IndexConfig(kind=kind, **settings)
    )


@pytest.mark.parametrize("kind", ["exact", "scann"])
class TestIndex:
    @pytest.mark.parametrize("num_items", [1, 2, 15, 16, 99, 100])
    def test_small_catalogues(self, kind, num_items):
        """C32, C33: of any size, more asked for than there is: all items in numpy's order, then padding."""
        vectors, queries = unit_vectors(num_items), unit_vectors(5, seed=1)
        scores, positions = build(kind, vectors).search(tf.constant(queries), num_items + 3)
        assert scores.shape == positions.shape == (5, num_items + 3)
        exact = queries @ vectors.T
        for row in range(5):
            expected = np.argsort(-exact[row], kind="stable")[: min(10, num_items)]
            np.testing.assert_array_equal(positions[row, : len(expected)], expected)
            np.testing.assert_allclose(scores[row, : len(expected)], exact[row, expected], atol=1e-6)
            found = [position for position in positions[row].numpy() if position >= 0]
            assert len(set(found)) == len(found) == num_items
        assert (positions[:, num_items:].numpy() == -1).all() and np.isneginf(scores[:, num_items:]).all()

    def test_in_a_graph_with_k_unknown(self, kind):
        index = build(kind, unit_vectors(40))
        search = tf.function(index.search, input_signature=[tf.TensorSpec([None, 8]), tf.TensorSpec([], tf.int32)])
        queries = tf.constant(unit_vectors(4, seed=2))
        np.testing.assert_array_equal(search(queries, 6)[1], index.search(queries, 6)[1])
        assert search(queries[:0], 6)[1].shape == (0, 6)

    def test_recall_at_ten_and_at_the_candidates(self, kind):
        """C34: 5,000 vectors, 200 queries of the kind that users send: means of several items."""
        vectors = unit_vectors(5000, 16)
        members = np.random.default_rng(3).integers(0, 5000, (200, 5))
        queries = vectors[members].mean(1)
        index = build(kind, vectors)
        assert index.kind == kind
        if kind == "scann":
            curve = build_index.tune_scann(index, queries, 0.96)
            leaves = [point["leaves_to_search"] for point in curve]
            assert leaves[:4] == [10, 14, 20, 28] and curve[0]["recall@200"] < 0.9
            assert all(point["recall@200"] < 0.96 for point in curve[: leaves.index(index.leaves_to_search)])
            assert {point["reorder"] for point in curve} > {2000.0} and index.reorder < 2000
        assert build_index.measure_recall(index, queries, 10) >= (1.0 if kind == "exact" else 0.98)
        assert build_index.measure_recall(index, queries, 200) >= (1.0 if kind == "exact" else 0.95)

    def test_refuses_what_is_not_finite_by_name(self, kind):
        vectors = unit_vectors(20)
        vectors[3, 1], vectors[7, 0] = np.nan, np.inf
        with pytest.raises(ValueError, match="2 item vectors are not finite: 'i3', 'i7'"):
            build(kind, vectors)

    def test_refuses_an_empty_catalogue_and_ids_that_repeat(self, kind):
        with pytest.raises(ValueError, match="at least one row"):
            build(kind, unit_vectors(0))
        with pytest.raises(ValueError, match="3 \\(2 distinct\\)"):
            build_index.build_vector_index(unit_vectors(3), ["a", "b", "a"], IndexConfig(kind=kind))

    def test_saves_and_loads(self, kind, tmp_path):
        index, queries = build(kind, unit_vectors(400), leaves_to_search=4), tf.constant(unit_vectors(4, seed=2))
        index_lib.save_index(index, str(tmp_path), [f"ü{row}" for row in range(400)], {"seconds": 1})
        loaded, item_ids = index_lib.load_index(str(tmp_path))
        assert loaded.kind == kind and loaded.parameters == index.parameters and item_ids[7] == "ü7"
        for before, after in zip(index.search(queries, 5), loaded.search(queries, 5)):
            np.testing.assert_array_equal(before, after)
        assert index_lib.load_index(str(tmp_path), kind="exact")[0].kind == "exact"


def test_auto_changes_at_the_configured_size():
    vectors = unit_vectors(60)
    assert build("auto", vectors, exact_below=61).kind == "exact"
    assert build("auto", vectors, exact_below=60).kind == "scann"


def test_recall_sees_a_bad_index():
    """One of forty leaves searched: much of the neighbourhood is missed, and the number says so."""
    vectors = unit_vectors(2500, 16)
    index = build("scann", vectors, num_leaves=40, leaves_to_search=1)
    assert build_index.measure_recall(index, unit_vectors(50, 16, seed=5), 200) < 0.7


def test_where_all_leaves_find_too_little_more_is_scored_exactly():
    vectors, queries = unit_vectors(5000, 16), unit_vectors(100, 16, seed=5)
    index = build("scann", vectors, candidates=10)
    curve = build_index.tune_scann(index, queries, 0.9999)
    assert index.leaves_to_search == index.num_leaves and index.reorder > 100
    reached = [point for point in curve if point["recall@10"] >= 0.9999]
    assert reached and reached[-1]["reorder"] == index.reorder
    assert build_index.measure_recall(index, queries, 10) >= 0.9999


def test_items_of_one_vector_stand_in_for_each_other(monkeypatch):
    """Of 600 items thirty vectors. Who finds the last of a vector's items where exact search has the first has lost
    nothing; who misses the best vector has."""
    vectors, queries = unit_vectors(30, 16)[np.arange(600) % 30], unit_vectors(40, 16, seed=5)
    index, backwards = build("exact", vectors), index_lib.ExactIndex(vectors[::-1].copy())
    exact = index.search(tf.constant(queries), 30)[1].numpy()

    def last_first(queries, k):
        scores, positions = backwards.search(queries, k)
        return scores, len(vectors) - 1 - positions

    def without_the_best(queries, k):
        scores, positions = index.search_all(queries, k + 20)
        return scores[:, 20:], positions[:, 20:]

    monkeypatch.setattr(index, "search_all", index.search, raising=False)
    monkeypatch.setattr(index, "search", last_first)
    found = index.search(tf.constant(queries), tf.constant(30))[1].numpy()
    assert np.mean([len(np.intersect1d(*pair)) for pair in zip(found, exact)]) < 25
    assert build_index.measure_recall(index, queries, 30) == 1
    monkeypatch.setattr(index, "search", without_the_best)
    assert build_index.measure_recall(index, queries, 30) < 0.7


@pytest.mark.parametrize("num_items", [16, 40])
def test_more_leaves_than_items_are_as_many_as_items(num_items):
    """A catalogue may have shrunk since the number was chosen."""
    vectors = unit_vectors(num_items)
    index = build("scann", vectors, num_leaves=1000, leaves_to_search=1000)
    assert index.num_leaves == index.leaves_to_search == num_items
    np.testing.assert_array_equal(index.search(tf.constant(vectors), 1)[1][:, 0], np.arange(num_items))


def test_one_leaf_is_refused():
    with pytest.raises(ValueError, match="item 0"):
        IndexConfig(num_leaves=1)
