"""Re-ranking of candidates: the way for large batches gives the lists of the usual one, in memory that stays flat."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from serving.online import rerank


def arguments_of(seed, batch, number, width, dim=4):
    """Caps of creators, diversity, exploration, and candidates that are none."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(batch, number, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    wishes = ([1.0, 0.7, 0.3, 0.0, 0.5, 0.9], [0, 1, 2, 0, 3, 1], [0.0, 0.0, 0.5, 0.0, 1.0, 0.2])
    mmr_lambda, cap, exploration = (tf.constant(values[:batch]) for values in wishes)
    return (
        tf.constant(random.normal(size=(batch, number)), tf.float32),
        tf.constant(np.where(random.random((batch, number)) < 0.2, -1, np.arange(number)), tf.int32),
        tf.constant(vectors),
        tf.constant(random.integers(-1, 4, (batch, number)), tf.int64),
        rerank.RerankOptions(mmr_lambda, cap, exploration, tf.range(batch)),
        tf.constant(width),
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_that_is_too_large_for_tables_has_the_same_lists(monkeypatch, seed):
    """With more places than candidates."""
    arguments = arguments_of(seed, batch=6, number=12, width=15)
    usual = [values.numpy() for values in rerank.mmr_rerank(*arguments)]
    monkeypatch.setattr(rerank, "_COSINES_AT_ONCE", 0)
    for expected, got in zip(usual, rerank.mmr_rerank(*arguments)):
        np.testing.assert_array_equal(got.numpy(), expected)
    assert (usual[0] >= 0).any(1).all() and len(set(usual[1].ravel())) > 1


def test_no_tensor_grows_with_places_and_candidates(monkeypatch):
    """All of 600 candidates are placed, and no tensor is larger than that of their vectors."""
    monkeypatch.setattr(rerank, "_COSINES_AT_ONCE", 0)
    assert largest_tensor(arguments_of(0, batch=2, number=600, width=600, dim=4)) <= 2 * 600 * 4


def largest_tensor(arguments):
    """Elements of the largest tensor that any op of a re-ranking gives."""
    sizes = []

    def note(op_type, inputs, attributes, outputs, *others):
        sizes.extend(int(np.prod(output.shape)) for output in outputs)

    op_callbacks.add_op_callback(note)
    try:
        rerank.mmr_rerank(*arguments)
    finally:
        op_callbacks.remove_op_callback(note)
    return max(sizes)
