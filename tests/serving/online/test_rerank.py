"""Re-ranking of candidates: the way for large batches gives the lists of the usual one."""

import numpy as np
import pytest
import tensorflow as tf

from serving.online import rerank


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_that_is_too_large_for_tables_has_the_same_lists(monkeypatch, seed):
    """Caps of creators, diversity, exploration, candidates that are none, and more places than candidates."""
    random, batch, number, dim = np.random.default_rng(seed), 6, 12, 4
    vectors = random.normal(size=(batch, number, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    arguments = (
        tf.constant(random.normal(size=(batch, number)), tf.float32),
        tf.constant(np.where(random.random((batch, number)) < 0.2, -1, np.arange(number)), tf.int32),
        tf.constant(vectors),
        tf.constant(random.integers(-1, 4, (batch, number)), tf.int64),
        rerank.RerankOptions(
            tf.constant([1.0, 0.7, 0.3, 0.0, 0.5, 0.9]),
            tf.constant([0, 1, 2, 0, 3, 1]),
            tf.constant([0.0, 0.0, 0.5, 0.0, 1.0, 0.2]),
            tf.range(batch),
        ),
        tf.constant(15),
    )
    usual = [values.numpy() for values in rerank.mmr_rerank(*arguments)]
    monkeypatch.setattr(rerank, "_COSINES_AT_ONCE", 0)
    for expected, got in zip(usual, rerank.mmr_rerank(*arguments)):
        np.testing.assert_array_equal(got.numpy(), expected)
    assert (usual[0] >= 0).any(1).all() and len(set(usual[1].ravel())) > 1
