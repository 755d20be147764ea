"""Contributions: parts of an item's vector that add up to it."""

import dataclasses

import numpy as np
import pytest

from trainer.explain.attribution import INTERACTIONS, contributions, part_names
from trainer.keras import tf
from trainer.retrieval.run import build


@pytest.mark.parametrize("changes", [{}, {"item_scale": True}, {"num_submodels": 2, "item_scale": True}])
def test_the_parts_add_up_to_the_vector(table, train_split, tiny, changes):
    config = dataclasses.replace(tiny.CONFIG, **changes)
    tower = build(table, train_split, tiny.DATA, config).item_tower
    for weight in [*tower.trainable_weights, tower.linear.kernel]:  # away from the start, where much is zero
        weight.assign(weight + tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.3))
    tower.shrinkage.assign(5.0)  # content and id embedding both count
    rows = np.arange(len(table))
    features = {name: tf.constant(array) for name, array in table.take(rows, tower.inputs).items()}
    parts = contributions(tower, features).numpy()
    assert parts.shape == (len(table), len(part_names(tower)), config.embedding_dim)
    np.testing.assert_allclose(parts.sum(1), tower(features).numpy(), atol=1e-5)

    unheard = {**features, "id_row": tf.zeros_like(features["id_row"])}
    parts = contributions(tower, unheard).numpy()
    np.testing.assert_allclose(parts.sum(1), tower(unheard).numpy(), atol=1e-5)
    assert not parts[:, part_names(tower).index(INTERACTIONS)].any()  # nobody has played them


def test_a_modality_that_is_missing_adds_nothing(table, train_split, tiny):
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG).item_tower
    tower.linear.kernel.assign(tf.random.stateless_normal(tower.linear.kernel.shape, [3, 4]))
    tower.shrinkage.assign(5.0)
    features = {name: tf.constant(array) for name, array in table.take(np.arange(4), tower.inputs).items()}
    at = part_names(tower).index("audio")
    assert contributions(tower, features).numpy()[:, at].any()
    assert not contributions(tower, {**features, "has_audio": tf.zeros(4, tf.int64)}).numpy()[:, at].any()
