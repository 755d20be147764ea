"""Tags told from the other content: probabilities that are right on average, and blind to the item's own tags."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from components.pretrained_config import PretrainedConfig
from trainer.content.fit import fit_content
from trainer.encoders.tag_head import FIRST_TAG, MIN_ITEMS, TagHead, calibrate, frequent_tags
from trainer.keras import tf
from trainer.retrieval.run import build


@pytest.fixture()
def tower(table, train_split, tiny):
    """The tiny catalogue's tag is its kind, which every modality tells."""
    config = dataclasses.replace(tiny.CONFIG, content_epochs=0)
    tower = build(table, train_split, tiny.DATA, config).item_tower
    fit_content(tower, table, np.arange(len(table)), config)
    return tower


def _features(table, tower):
    return {name: tf.constant(array) for name, array in table.take(np.arange(len(table)), tower.inputs).items()}


def test_an_item_without_tags_is_told_the_right_one(tower, table):
    features = _features(table, tower)
    labels = tower.tag_head.labels(features["tag_ids"]).numpy()
    untagged = {
        **features,
        "tag_ids": tf.zeros_like(features["tag_ids"]),
        "has_tags": tf.zeros_like(features["has_tags"]),
    }
    told = tower.tags(untagged).numpy()
    assert (told.argmax(1) == labels.argmax(1)).all() and ((told > 0) & (told < 1)).all()
    np.testing.assert_allclose(told.mean(0), labels.mean(0), atol=0.1)


def test_own_tags_change_nothing(tower, table):
    features = _features(table, tower)
    other = {**features, "tag_ids": features["tag_ids"][::-1], "has_tags": 1 - features["has_tags"]}
    for weight in tower.tag_head.trainable_weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    np.testing.assert_allclose(tower.tags(other), tower.tags(features), atol=1e-6)


@pytest.mark.parametrize(("columns", "is_hidden"), [(("title", "tags"), True), (("title",), False)])
def test_what_an_encoder_made_of_own_tags_changes_nothing(table, train_split, tiny, columns, is_hidden):
    """The embedding is that of a text encoder of the run, which reads tags or does not."""
    reader = PretrainedConfig("given", "text", "", 3, columns)
    tower = build(table, train_split, tiny.DATA, tiny.CONFIG, encoder_configs=[reader]).item_tower
    for weight in tower.tag_head.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    features = _features(table, tower)
    other = {**features, "embedding_given": features["embedding_given"][::-1]}
    assert np.allclose(tower.tags(other), tower.tags(features), atol=1e-6) == is_hidden


def test_tags_are_learned_from_items_that_have_some_wherever_they_stand(table, train_split, tiny, monkeypatch):
    """Of twelve items three are fitted on, evenly spaced, and those three have no tags."""
    monkeypatch.setattr("trainer.content.fit._MOST_ITEMS", 3)
    untagged = np.isin(np.arange(len(table)), [0, 5, 11])
    table.arrays["has_tags"] = (~untagged).astype(np.int64)
    table.arrays["tag_ids"] = table.arrays["tag_ids"] * ~untagged[:, None]
    config = dataclasses.replace(tiny.CONFIG, content_epochs=0)
    tower = build(table, train_split, tiny.DATA, config).item_tower
    fit_content(tower, table, np.arange(len(table)), config)
    assert tower.tag_head.bias.numpy().any()


def test_frequent_tags_come_first_and_rare_ones_not_at_all():
    ids = np.zeros((3 * MIN_ITEMS, 3), np.int64)
    ids[:, 0] = FIRST_TAG + 1  # on all, twice on some
    ids[:MIN_ITEMS, 1] = FIRST_TAG
    ids[:3, 2] = FIRST_TAG + 1
    ids[: MIN_ITEMS - 1, 2] = FIRST_TAG + 2
    ids[-MIN_ITEMS:, 1] = FIRST_TAG - 1  # unknown is no tag
    assert frequent_tags(ids).tolist() == [FIRST_TAG + 1, FIRST_TAG]
    assert not len(frequent_tags(ids[:0]))


def test_calibration_is_logistic_regression():
    random = np.random.default_rng(5)
    scores = random.normal(size=(400, 1))
    labels = (random.random((400, 1)) < 1 / (1 + np.exp(-(0.5 + 2 * scores)))).astype(float)
    slope, intercept = calibrate(scores, labels, np.zeros(1))
    expected = LogisticRegression(C=1e6).fit(scores, labels.ravel())
    np.testing.assert_allclose([slope, intercept], [expected.coef_[0, 0], expected.intercept_[0]], atol=1e-2)
    assert calibrate(-scores, labels, np.zeros(1))[0] == 0  # what points the wrong way is not believed


def test_the_loss_leaves_out_items_without_tags():
    head = TagHead(np.array([2, 3]), 1)
    loss = head.loss(tf.zeros([2, 2]), tf.constant([[2, 0], [0, 0]], tf.int64), tf.constant([1, 0], tf.int64)).numpy()
    np.testing.assert_allclose(loss, [np.log(2), 0], atol=1e-6)
