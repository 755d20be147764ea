"""Where vectors start for items that few have played: near items of the same content."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

from trainer.retrieval.content_init import content_directions
from trainer.retrieval.run import build
from trainer.retrieval.svd_init import CONTENT_COUNTS_AS, svd_vectors


def test_strangers_with_one_content_start_together():
    """Four items of four audiences that share nothing, in two kinds: with content each stands by its kind, without by
    nobody.
    """
    chosen = sp.csr_matrix(np.eye(4))
    content = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    cosines = [vectors @ vectors.T for vectors in (svd_vectors(chosen, 2, 1), svd_vectors(chosen, 2, 1, content))]
    assert cosines[1][0, 1] > 0.9 and cosines[1][2, 3] > 0.9 and np.abs(cosines[1][:2, 2:]).max() < 0.3
    assert not (cosines[0][0, 1] > 0.9 and cosines[0][2, 3] > 0.9)


@pytest.mark.parametrize("users, nearer", [(2, "content"), (400, "audience")])
def test_the_more_users_the_less_content_counts(users, nearer):
    """Items 0, 1 share an audience and 2, 3 another; 0, 2 share their content and 1, 3 another. One direction: the
    stronger decides.
    """
    audience = np.kron(np.eye(2), np.ones((users, 2)))
    content = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    first, second, third, _ = svd_vectors(sp.csr_matrix(audience), 2, 1, content)
    by = {"audience": first @ second, "content": first @ third}
    assert by[nearer] > by["audience" if nearer == "content" else "content"]


def test_the_stacked_decomposition_is_that_of_the_dense_matrix():
    """Against NumPy's decomposition of the matrix written out, up to the noise of the start."""
    random = np.random.default_rng(0)
    chosen = (random.random((30, 12)) < 0.3).astype(np.float64)
    content = random.normal(size=(12, 3))
    of_user, of_item = np.maximum(chosen.sum(1), 1.0), np.maximum(chosen.sum(0), 1.0)
    trust = of_item / (of_item + CONTENT_COUNTS_AS)
    people = chosen / np.sqrt(of_user)[:, None] / np.sqrt(of_item) * np.sqrt(trust)
    rows = content.T / np.linalg.norm(content, 2) * np.sqrt(1 - trust)
    _, values, directions = np.linalg.svd(np.concatenate([people, rows]), full_matrices=False)
    expected = directions[:4].T * values[:4]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = svd_vectors(sp.csr_matrix(chosen), 4, 0, content)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=0.25)


def test_content_directions_keep_the_likeness_of_items(table, train_split, tiny):
    """The catalogue has two kinds, told by every modality; an item of which nothing is known is nowhere."""
    tower = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, use_attributes=False)).item_tower
    rows = np.arange(len(table))
    starts = np.eye(4)[rows % 2]
    vectors = content_directions(tower, table, rows, starts)
    cosines = vectors @ vectors.T
    alike = rows[:, None] % 2 == rows % 2
    assert cosines[alike].min() > cosines[~alike].max()
    for modality in tower.modalities:
        table.arrays[modality.flag] = (rows != 3).astype(np.int64)
    for name in ("text_tokens", "tag_ids"):
        table.arrays[name] = table.arrays[name] * (rows != 3)[:, None]
    assert not content_directions(tower, table, rows, starts)[3].any()


def test_a_block_is_weighted_by_what_it_explains_of_the_embeddings(table, train_split, tiny):
    """Tags say the kind, the creator something else: items are alike by what their listeners go by."""
    tower = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, modalities=("tags",))).item_tower
    rows = np.arange(len(table))
    kinds = rows % 2
    creators = np.array([0, 0, 1, 1] * 3)
    table.arrays["creator_id"] = 2 + creators
    for decides, other in ((kinds, creators), (creators, kinds)):
        vectors = content_directions(tower, table, rows, np.eye(4)[decides])
        cosines = vectors @ vectors.T
        agree = {
            name: (values[:, None] == values) & (against[:, None] != against)
            for name, values, against in (("decides", decides, other), ("other", other, decides))
        }
        assert cosines[agree["decides"]].mean() > cosines[agree["other"]].mean()


def test_no_more_directions_than_dimensions(table, train_split, tiny):
    rows = np.arange(len(table))
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG).item_tower
    assert content_directions(tower, table, rows, np.eye(3)[rows % 2]).shape == (len(table), 3)
