"""Initialisation of item vectors, and the scale of an item as a candidate, on sums that a pencil can follow."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

from trainer.keras import tf
from trainer.retrieval.model import ProfileRetrieval
from trainer.retrieval.run import build
from trainer.retrieval.svd_init import positive_matrix, svd_vectors
from trainer.towers.ensemble import with_scale
from trainer.towers.user_tower import ProfileTower


def test_items_of_one_audience_start_together_and_of_two_apart():
    """Two audiences that share nothing: cosine 1 within (up to the noise of the start), 0 between."""
    chosen = sp.csr_matrix(
        np.kron(np.eye(2), np.ones((3, 2))).astype(np.float32)
    )  # users 0-2: items 0, 1; users 3-5: items 2, 3
    vectors = svd_vectors(chosen, dim=2, seed=1)
    cosines = vectors @ vectors.T
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert cosines[0, 1] > 0.9 and cosines[2, 3] > 0.9
    assert np.abs(cosines[:2, 2:]).max() < 0.35
    np.testing.assert_array_equal(vectors, svd_vectors(chosen, dim=2, seed=1))


@pytest.mark.parametrize("dim", [1, 3, 9])
def test_more_dimensions_than_rank_and_items_without_anyone_stay_finite(dim):
    chosen = sp.csr_matrix(np.array([[1, 1, 0], [0, 1, 0]], np.float32))
    np.testing.assert_allclose(np.linalg.norm(svd_vectors(chosen, dim, seed=0), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("at_once", [20, 2_000_000])
def test_the_start_is_that_of_the_dense_decomposition(at_once, monkeypatch):
    """Up to the noise, also where the users come in several blocks, and with content as further rows."""
    monkeypatch.setattr("trainer.retrieval.svd_init._INTERACTIONS_AT_ONCE", at_once)
    random = np.random.default_rng(0)
    chosen, content = (random.random((30, 12)) < 0.3).astype(float), random.normal(size=(12, 2))
    per_user, per_item = np.maximum(chosen.sum(1), 1), np.maximum(chosen.sum(0), 1)
    weights = 10 / (per_item + 10)
    rows = content.T / np.linalg.norm(content, 2) * weights**0.5
    dense = np.concatenate([chosen / per_user[:, None] ** 0.5 / per_item**0.5 * (1 - weights) ** 0.5, rows])
    _, values, directions = np.linalg.svd(dense)
    expected = directions[:4].T * values[:4]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = svd_vectors(sp.csr_matrix(chosen), dim=4, seed=1, content=content, num_submodels=40)
    parts = np.stack(np.split(got, 40, 1))  # the noise is of mean 0
    np.testing.assert_allclose((parts @ parts.transpose(0, 2, 1)).mean(0), expected @ expected.T, atol=0.1)


def test_items_that_nobody_knows_cost_nothing(monkeypatch):
    """Of two hundred items four were played, and two more have content: six rows are decomposed, and the others start
    as noise."""
    chosen, content = np.zeros((6, 200), np.float32), np.zeros((200, 2), np.float32)
    chosen[:3, [10, 20]] = chosen[3:, [30, 40]] = 1
    content[[10, 20, 50, 60]] = [[1, 0], [1, 0.1], [1, 0], [0, 1]]
    sizes, qr = set(), np.linalg.qr

    def counted(matrix):
        sizes.add(len(matrix))
        return qr(matrix)

    monkeypatch.setattr(np.linalg, "qr", counted)
    vectors = svd_vectors(sp.csr_matrix(chosen), 3, 1, content)
    assert sizes == {6} and vectors.shape == (200, 3)
    cosines = vectors @ vectors.T
    assert cosines[10, 20] > 0.9 and cosines[30, 40] > 0.9 and cosines[10, 50] > cosines[30, 50]
    assert np.abs(cosines[70:].mean()) < 0.1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_positive_matrix_counts_a_pair_once(train_split, table):
    matrix = positive_matrix(train_split, len(table)).toarray()
    assert matrix.shape == (24, 12) and set(np.unique(matrix)) == {0, 1}
    assert (matrix.sum(1) == 5).all() and not matrix[0, 1::2].any()  # user 0 knows five of the six even items


def test_a_scale_scales_the_score_and_keeps_the_vector_unit():
    """Scale 0.6 of the direction (1, 0): vector (0.6, 0, 0.8); a user (0.5, 0.5, 0) scores it 0.6 * 0.5."""
    vector = with_scale(tf.constant([[1.0, 0.0]]), tf.constant([[0.6]])).numpy()
    np.testing.assert_allclose(vector, [[0.6, 0.0, 0.8]], atol=1e-6)
    assert float(vector @ [0.5, 0.5, 0.0]) == pytest.approx(0.3)


def test_a_profile_adds_directions_whatever_their_scale(tiny):
    tower = ProfileTower(tiny.DATA, dataclasses.replace(tiny.CONFIG, embedding_dim=3, item_scale=True))
    tower.direction_prior.assign([0.0, 0.0])
    vectors = with_scale(tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[0.9], [0.1]]))
    history = {
        "vectors": vectors[None],
        "events": tf.ones([1, 2], tf.int32),
        "age_s": tf.zeros([1, 2]),
        "users": tf.zeros([1], tf.int32),
    }
    np.testing.assert_allclose(tower(history).numpy(), [[0.5**0.5, 0.5**0.5, 0.0]], atol=1e-6)
    assert not tower.directions(tf.zeros([2, 3])).numpy().any()


@pytest.mark.parametrize("scales", [[0.5, 0.5, 0.5], [0.9, 0.5, 0.2]])
def test_an_item_does_not_predict_itself(tiny, scales):
    """Of three orthogonal items one is chosen: less its own contribution nothing is predicted, so all of the unit
    target is missed.
    """
    config = dataclasses.replace(tiny.CONFIG, embedding_dim=4, item_scale=True, loss="profile_cosine")
    user = ProfileTower(tiny.DATA, config)
    user.direction_prior.assign([0.0] * 3)
    vectors = with_scale(tf.eye(3), tf.constant(scales)[:, None])
    model = ProfileRetrieval(lambda features, **_: vectors, user, np.ones(3) / 3, config, 8)
    batch = {
        "features": {}, "items": tf.constant([[0]]), "events": tf.ones([1, 1], tf.int32), "age_s": tf.zeros([1, 1]),
        "users": tf.zeros([1], tf.int32),
        "weights": tf.ones([1, 1]), "positives": tf.ones([1, 1], tf.bool),
    }  # fmt: skip
    assert float(model.compute_loss(batch, training=False)) == pytest.approx(1.0, abs=1e-4)


def test_without_content_the_warm_items_start_at_the_singular_vectors(table, train_split, tiny):
    config = dataclasses.replace(tiny.CONFIG, use_attributes=False, item_scale=True)
    table.modalities = ()  # a catalogue of ids alone
    tower = build(table, train_split, tiny.DATA, config).item_tower
    expected = svd_vectors(positive_matrix(train_split, len(table)), config.embedding_dim - 1, config.seed)
    got = tower.encode(table)
    np.testing.assert_allclose(got[:, :-1], 0.5 * expected, atol=1e-5)  # every scale starts at one half
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
