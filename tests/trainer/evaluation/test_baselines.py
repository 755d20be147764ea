"""The baselines against hand calculations, scikit-learn and data with an obvious right answer."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from trainer.evaluation import baselines

TRAIN = sp.csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]], float))


def checkerboard(users=8, items=8):
    """Even users take even items, odd users odd ones."""
    return (np.add.outer(np.arange(users), np.arange(items)) % 2 == 0).astype(float)


@pytest.mark.parametrize(
    "make", [baselines.Popularity, baselines.Random, baselines.ItemKnn, lambda: baselines.ContentKnn(np.eye(4))]
)
def test_interface(make):
    scores = make().fit(TRAIN).scores(TRAIN[:3])
    assert scores.shape == (3, 4) and scores.dtype == np.float32 and np.isfinite(scores).all()


def test_popularity_counts_people():
    train = TRAIN.copy()
    train.data[:] = 7  # strength is not popularity
    np.testing.assert_array_equal(baselines.Popularity().fit(train).scores(TRAIN[:2]), [[3, 2, 2, 1]] * 2)


def test_random_is_the_same_again_and_differs_between_people_and_seeds():
    first, again, other = (baselines.Random(seed).fit(TRAIN).scores(TRAIN) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(
        baselines.Random(0).fit(TRAIN).scores(TRAIN[2:3])[0], first[2]
    )  # a batch equals its parts


def test_item_knn_is_the_cosine_of_columns():
    dense = TRAIN.toarray()
    similarity = cosine_similarity(dense.T)
    np.fill_diagonal(similarity, 0)
    scores = baselines.ItemKnn(neighbours=4, shrinkage=0).fit(TRAIN).scores(TRAIN)
    np.testing.assert_allclose(scores, dense @ similarity, rtol=1e-6)


def test_item_knn_shrinks_and_keeps_the_nearest():
    """Item 0's cosines: item 1 2/(√3·√2), item 2 1/(√3·√2); with shrinkage 1 the denominator grows by 1."""
    scores = baselines.ItemKnn(neighbours=1, shrinkage=1).fit(TRAIN).scores(sp.csr_matrix([[0, 1.0, 1.0, 0]]))
    assert scores[0, 0] == pytest.approx(2 / (np.sqrt(6) + 1))


def test_item_knn_finds_the_withheld_item_of_a_checkerboard():
    train = checkerboard()
    train[0, 6] = 0
    scores = baselines.ItemKnn().fit(sp.csr_matrix(train)).scores(sp.csr_matrix(train[:1]))[0]
    assert np.where(train[0] > 0, -1, scores).argmax() == 6


def test_item_knn_in_blocks(monkeypatch):
    whole = baselines.ItemKnn(2, 1).fit(TRAIN).scores(TRAIN)
    for limit, value in (("_ITEMS_AT_ONCE", 3), ("_PAIRS_AT_ONCE", 5)):
        with monkeypatch.context() as patched:
            patched.setattr(baselines, limit, value)
            assert len(list(baselines._item_blocks(sp.csc_matrix(TRAIN)))) > 1
            np.testing.assert_allclose(baselines.ItemKnn(2, 1).fit(TRAIN).scores(TRAIN), whole)


def test_item_knns_of_several_shrinkages_are_those_fitted_alone():
    train = sp.csr_matrix((np.random.default_rng(1).random((40, 60)) < 0.1).astype(float))
    for knn, shrinkage in zip(baselines.ItemKnn.fit_each(train, 5, (0.0, 3.0)), (0.0, 3.0)):
        np.testing.assert_array_equal(knn.scores(train), baselines.ItemKnn(5, shrinkage).fit(train).scores(train))


def test_item_knn_narrowed_is_the_one_fitted_with_fewer_neighbours():
    """Many equal similarities, of which those of the first items count."""
    train = sp.csr_matrix((np.random.default_rng(0).random((40, 60)) < 0.1).astype(float))
    for neighbours in (1, 5, 20):
        fitted = baselines.ItemKnn(neighbours, 1.0).fit(train).scores(train)
        np.testing.assert_array_equal(baselines.ItemKnn(20, 1.0).fit(train).narrowed(neighbours).scores(train), fitted)


def test_the_highest_of_a_row_are_its_first_of_equals():
    """As sorting the whole row by value, then by column."""
    values = np.random.default_rng(0).integers(1, 4, (30, 50)).astype(float)
    kept = baselines._keep_highest(sp.csr_matrix(values), 7).toarray()
    for row, found in zip(values, kept):
        assert np.flatnonzero(found).tolist() == sorted(np.lexsort((np.arange(50), -row))[:7])


def test_tf_idf_equals_scikit_learn():
    documents = ["red fox red", "blue fox", "", "green tree fox tree"]
    ours = baselines.tf_idf([text.split() for text in documents])
    np.testing.assert_allclose(ours.toarray(), TfidfVectorizer().fit_transform(documents).toarray(), atol=1e-6)


def test_content_knn_prefers_like_content_and_knows_items_nobody_took():
    content = baselines.tf_idf([["jazz"], ["jazz", "night"], ["metal"], []])
    scores = baselines.ContentKnn(content).fit(TRAIN).scores(sp.csr_matrix([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    assert scores[0, 0] == pytest.approx(1) and 0 < scores[0, 1] < 1 and scores[0, 2] == scores[0, 3] == 0
    np.testing.assert_array_equal(scores[1], 0)
    with pytest.raises(ValueError, match="content of 3 items"):
        baselines.ContentKnn(np.eye(3)).fit(TRAIN)


def test_recent_popularity_halves_over_a_tenth_of_the_time():
    """100 s of data: an interaction of 10 s ago counts half; one without time counts in full."""
    popularity = baselines.recent_popularity(np.array([0, 1, 2, 3]), np.array([0.0, 90.0, 100.0, np.nan]), 5)
    np.testing.assert_allclose(popularity, [0.5**10, 0.5, 1, 1, 0])
    assert baselines.recent_popularity(np.array([1, 1]), np.full(2, np.nan), 3).tolist() == [0, 2, 0]
