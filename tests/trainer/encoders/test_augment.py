"""Masks, dropout and the price of weights: they act in training, and nowhere else."""

import dataclasses

import numpy as np
import pytest

from trainer.content import fit
from trainer.encoders.augment import l2_penalty, spec_augment
from trainer.keras import tf
from trainer.retrieval.run import build

ONES = tf.ones([4, 2, 30, 8])  # [B, S, F, M]


def test_spec_augment_hides_one_band_and_one_stretch_of_each_spectrogram():
    """What is hidden are whole columns and whole rows, side by side, fewer than the limits; the places differ from item
    to item.
    """
    masked = spec_augment(ONES, 4, 10).numpy().reshape(8, 30, 8)
    assert set(np.unique(masked)) <= {0.0, 1.0}
    for spectrogram in masked:
        bins, frames = np.flatnonzero((spectrogram == 0).all(0)), np.flatnonzero((spectrogram == 0).all(1))
        assert len(bins) < 4 and len(frames) < 10
        for hidden in (bins, frames):
            assert len(hidden) == 0 or np.ptp(hidden) + 1 == len(hidden)
        rest = np.delete(np.delete(spectrogram, bins, 1), frames, 0)
        assert (rest == 1).all()
    assert len({spectrogram.tobytes() for spectrogram in masked}) > 1
    assert (masked == 0).any()


@pytest.mark.parametrize("bins, frames, axis", [(8, 0, 1), (0, 30, 2)])
def test_each_mask_acts_alone(bins, frames, axis):
    """With the band alone every frame is alike, with the stretch alone every bin."""
    masked = spec_augment(ONES, bins, frames).numpy().reshape(8, 30, 8)
    assert (masked == 0).any()
    assert np.ptp(masked, axis).max() == 0


def test_only_matrices_cost():
    weights = [tf.Variable([[1.0, 2.0]]), tf.Variable([10.0]), tf.Variable([[3.0]])]
    assert float(l2_penalty(weights, 0.5)) == pytest.approx(0.5 * (1 + 4 + 9))


SETTINGS = {
    "text": {"drop_words": 0.9},
    "audio": {"frequency_mask_mels": 64, "time_mask_frames": 300},
    "video": {"drop_frames": 0.9},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_hidden_is_hidden_in_training_only(table, train_split, tiny, name):
    """Without any dropout, an encoder's training output differs from its answer where the setting is on, and only
    there.
    """
    plain = dataclasses.replace(tiny.SMALL, keep_tokens=1.0)
    changed = {}
    for label, settings in (("off", {}), ("on", SETTINGS[name])):
        encoder = dataclasses.replace(plain, **settings)
        tower = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, encoder=encoder)).item_tower
        layer, features = tower.encoders[name], table.take(np.arange(len(table)), tower.inputs)
        answer = layer(features, training=False).numpy()
        np.testing.assert_array_equal(answer, layer(features, training=False).numpy())
        changed[label] = np.abs(layer(features, training=True).numpy() - answer).max()
    assert changed["off"] < 1e-6 < 1e-5 < changed["on"]


def test_one_word_and_one_frame_always_stay(table, train_split, tiny):
    """Even if nearly everything is dropped, no item is left without content: a frame stays, and an item with a single
    word keeps it.
    """
    encoder = dataclasses.replace(tiny.SMALL, keep_tokens=1.0, drop_words=0.99, drop_frames=0.99)
    tower = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, encoder=encoder)).item_tower
    _, mask = tower.encoders["video"].patches(table.take(np.arange(len(table)), tower.inputs), training=True)
    assert (mask.numpy().sum(1) > 0).all()
    words = np.zeros((len(table), 48), np.int64)
    words[:, 0] = 2
    single = {"text_tokens": tf.constant(words)}
    np.testing.assert_allclose(
        tower.encoders["text"](single, training=True), tower.encoders["text"](single, training=False), atol=1e-6
    )


def test_large_weights_cost_in_training_and_not_in_the_held_out_error(table, train_split, tiny):
    """A step with l2 leaves smaller weights than the same step without; the error that stops training does not know of
    l2.
    """
    norms, errors = {}, {}
    for l2 in (0.0, 10.0):
        config = dataclasses.replace(
            tiny.CONFIG, encoder=dataclasses.replace(tiny.SMALL, keep_tokens=1.0, l2=l2), modality_dropout=0.0
        )
        tower = build(table, train_split, tiny.DATA, config).item_tower
        rows = np.arange(len(table))
        features = {name: tf.constant(array) for name, array in table.take(rows, tower.inputs).items()}
        targets = np.ones((len(table), config.embedding_dim), np.float32)
        errors[l2] = float(tf.reduce_mean(fit._objective(tower, config)(features, targets)))
        fit._epoch(tower, table, rows, targets, config)(0)
        norms[l2] = sum(float(tf.reduce_sum(weight**2)) for weight, _ in tower.content_rates if weight.shape.rank > 1)
    assert errors[0.0] == errors[10.0]
    assert norms[10.0] < norms[0.0]
