"""Contributions add up to what they explain."""

import numpy as np
import pytest

from components.config import DataConfig, TableConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.explain.integrated_gradients import history_parts, integrated_gradients
from trainer.keras import tf
from trainer.towers import user_tower

DIM = 4
DATA = DataConfig(TableConfig(""), TableConfig(""), history_length=5)


def unit(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(*shape, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def history():
    """Two people: three interactions, and one with padding behind it."""
    vectors = unit(2, 3)
    vectors[1, 1:] = 0
    events = np.array([[2, 3, 4], [3, 0, 0]], np.int32)
    return {
        "vectors": tf.constant(vectors),
        "events": tf.constant(events),
        "age_s": tf.constant([[90.0, 60, 0], [5, 0, 0]]),
        "users": tf.zeros([2], tf.int32),
    }


CONFIGS = {
    "profile": RetrievalConfig(embedding_dim=DIM),
    "profile with gains": RetrievalConfig(embedding_dim=DIM, item_scale=True),
    "sequence": RetrievalConfig(embedding_dim=DIM, user_tower="sequence", loss="softmax", sequence_layers=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_and_rest_are_the_score(name):
    """To 1e-4, for each of five items; padding adds nothing."""
    tf.keras.utils.set_random_seed(3)
    tower = user_tower.user_tower(DATA, CONFIGS[name])
    items = tf.constant(unit(2, 5, seed=1))
    users = tower(history(), training=False)
    parts, rest = history_parts(tower, history(), items)
    np.testing.assert_allclose(tf.reduce_sum(parts, 2) + rest, tf.einsum("bd,bmd->bm", users, items), atol=1e-4)
    assert not np.any(parts[1, :, 1:]) and np.all(np.abs(parts[0]) > 0)


def test_without_a_prior_the_part_is_weight_times_cosine_over_the_length():
    """Two orthogonal likes of equal weight: the item of the first has its whole score, 1 / sqrt(2), from it."""
    tower = user_tower.user_tower(DATA, CONFIGS["profile"])
    axes = {
        "vectors": tf.eye(2, DIM)[None],
        "events": tf.constant([[4, 4]]),
        "age_s": tf.zeros([1, 2]),
        "users": tf.zeros([1], tf.int32),
    }
    tower(axes)
    tower.direction_prior.assign(tf.zeros(DIM))
    parts, rest = history_parts(tower, axes, tf.eye(1, DIM)[None])
    np.testing.assert_allclose(parts[0, 0], [2**-0.5, 0], atol=1e-6)
    assert rest.numpy().item() == 0


def test_integrated_gradients_of_a_product():
    """x y from (0, 0): half to each; a linear z counts in full, and the constant is the rest."""
    fields = [tf.constant([[[2.0], [3.0], [5.0]]])]
    parts, rest = integrated_gradients(lambda f: f[0][:, 0, 0] * f[0][:, 1, 0] + f[0][:, 2, 0] + 7, fields)
    np.testing.assert_allclose(parts, [[3, 3, 5]], atol=1e-5)
    np.testing.assert_allclose(rest, [7])
