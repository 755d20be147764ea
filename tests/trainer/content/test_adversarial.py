"""FGSM and PGD through the whole content path: within their radii, within real media, and worse than chance for the
item.
"""

import dataclasses
from functools import partial

import numpy as np
import pytest

from components.datasets.interactions import read_interactions
from trainer.config.adversary import AdversaryConfig
from trainer.content.adversarial import Adversary, harden
from trainer.content.fit import fit_content
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.run import build

RADII = {"audio": 0.3, "video": 4.0, "text": 0.3, "embedding": 0.1}


@pytest.fixture(scope="module")
def fitted(item_file, sequence_files, tiny, tmp_path_factory):
    """A tower whose linear map listens to everything, without Transformers (they are slow to trace), its table, a batch
    of all items.
    """
    table = ItemTable.build(item_file, tiny.DATA, tmp_path_factory.mktemp("table"))
    train_split = read_interactions([sequence_files["train"]], table.item_ids, tuple(tiny.DATA.event_rules))
    config = dataclasses.replace(tiny.CONFIG, encoder=dataclasses.replace(tiny.SMALL, layers=0, fusion_layers=0))
    tower = build(table, train_split, tiny.DATA, config).item_tower
    tower.linear.kernel.assign(np.random.default_rng(0).normal(size=tower.linear.kernel.shape))
    features = {name: tf.constant(array) for name, array in table.take(np.arange(len(table)), tower.inputs).items()}
    return tower, table, features


def some(features, part):
    return {name: values[part] for name, values in features.items()}


def distance(tower):
    return lambda features, targets: 1 - tf.reduce_sum(tower.content(features, training=False)[0] * targets, -1)


def test_fgsm_on_a_plain_function_is_the_sign_of_its_slope(fitted):
    """The loss 3 x - 2 y of a given embedding's first two values: one goes up by the radius, the other down, the third
    stays.
    """
    tower, table, features = fitted

    def loss(inputs, targets):
        return 3 * inputs["embedding_given"][:, 0] - 2 * inputs["embedding_given"][:, 1]

    moved = Adversary(tower, AdversaryConfig(method="fgsm", **RADII), loss)(features, tf.zeros([len(table), 1]))
    values = table.arrays["embedding_given"]
    radius = 0.1 * np.sqrt(np.mean(values**2))
    np.testing.assert_allclose(
        moved["embedding_given"] - values, np.tile([radius, -radius, 0], (len(table), 1)), rtol=1e-3, atol=1e-6
    )
    np.testing.assert_array_equal(moved["audio_log_mel"], table.arrays["audio_log_mel"])


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_the_inputs_stay_within_the_radii_and_within_real_media(fitted, method):
    tower, table, features = fitted
    targets = tf.roll(tower.content(features)[0], 1, 0)
    moved = Adversary(tower, AdversaryConfig(method=method, steps=2, **RADII), distance(tower))(features, targets)
    for name, radius in (("audio_log_mel", 0.3 * 255 / 15), ("video_frames", 4.0)):
        difference = moved[name].numpy() - table.arrays[name]
        assert 0.5 * radius < np.abs(difference).max() <= radius + 1e-3
        assert moved[name].numpy().min() >= 0 and moved[name].numpy().max() <= 255
    assert 0 < np.abs(moved["tags_presence"]).max() <= 0.3 / np.sqrt(moved["tags_presence"].shape[1]) + 1e-6
    embeddings = tower.encoders["text"].vectors.embeddings.numpy()
    assert np.abs(moved["text_shift"]).max() <= 0.3 * np.sqrt(np.mean(embeddings**2)) + 1e-6
    assert all(np.isfinite(value).all() for name, value in moved.items() if value.dtype == tf.float32)
    assert "audio_statistics" not in moved and "video_statistics" not in moved  # measured anew
    np.testing.assert_array_equal(moved["audio_num_frames"], table.arrays["audio_num_frames"])
    if method == "fgsm":
        silent = np.arange(300) >= table.arrays["audio_num_frames"][..., None]
        np.testing.assert_array_equal(
            moved["audio_log_mel"].numpy()[silent], table.arrays["audio_log_mel"][silent]
        )  # padding says nothing


def test_an_attack_does_more_than_noise_of_its_size_and_more_steps_do_no_less(fitted):
    tower, table, features = fitted
    targets, loss = tf.math.l2_normalize(tower.content(features)[0] + 0.05, -1), distance(tower)

    def attacked(config):
        return float(tf.reduce_mean(loss(Adversary(tower, config, loss)(features, targets), targets)))

    def noise(inputs, goal):  # its slope has signs that have nothing to do with the item
        return (
            tf.add_n([tf.reduce_sum(tf.cast(inputs[name], tf.float32) * signs[name]) for name in signs])
            + 0 * goal[:, 0]
        )

    random = np.random.default_rng(0)
    signs = {
        name: tf.constant(random.normal(size=features[name].shape), tf.float32)
        for name in ("audio_log_mel", "video_frames", "embedding_given")
    }
    noisy = Adversary(tower, AdversaryConfig(method="fgsm", **RADII), noise)(features, targets)
    clean, fgsm = float(tf.reduce_mean(loss(features, targets))), attacked(AdversaryConfig(method="fgsm", **RADII))
    assert fgsm > clean and fgsm > float(tf.reduce_mean(loss(noisy, targets)))
    assert attacked(AdversaryConfig(method="pgd", **RADII)) > 0.9 * fgsm


def test_zero_radii_change_nothing(fitted):
    tower, _, features = fitted
    nothing = AdversaryConfig(audio=0, video=0, text=0, embedding=0, steps=1)
    moved = Adversary(tower, nothing, distance(tower))(features, tower.content(features)[0])
    np.testing.assert_allclose(tower.content(moved)[0], tower.content(features)[0], atol=1e-4)


def test_a_hardened_map_errs_less_under_attack(fitted):
    """FGSM on each map's own weak points: the map that has played against an adversary errs less than the closed form
    that has not.
    """
    tower, table, features = fitted
    random = np.random.default_rng(3)
    columns = np.concatenate(tower.linear.design(tower.complete(features)), 1)
    targets = (columns @ random.normal(size=(columns.shape[1], tower.linear.dim))).astype(
        np.float32
    )  # every modality tells something
    config = AdversaryConfig(method="fgsm", audio=1.0, video=20.0, text=0.5, embedding=0.5)

    def error(inputs, goal):
        return tf.reduce_sum((tower.linear(tower.complete(inputs)) - goal) ** 2, -1)

    before = tower.linear.kernel.numpy()
    designs = tower.linear.designs(features)
    tower.linear.solve(designs, targets)
    plain = float(tf.reduce_mean(error(Adversary(tower, config, error)(features, targets), targets)))
    harden(tower, config, designs, targets, partial(some, features))
    hardened = float(tf.reduce_mean(error(Adversary(tower, config, error)(features, targets), targets)))
    tower.linear.kernel.assign(before)
    assert hardened < 0.95 * plain


def test_what_is_imputed_follows_from_the_hardened_map(table, train_split, tiny, monkeypatch):
    monkeypatch.setattr("trainer.encoders.linear.MIN_FOR_IMPUTATION", 3)
    table.arrays["has_audio"] = (np.arange(len(table)) % 3 > 0).astype(np.int64)
    config = dataclasses.replace(tiny.CONFIG, encoder=dataclasses.replace(tiny.SMALL, layers=0, fusion_layers=0))
    linear = (tower := build(table, train_split, tiny.DATA, config).item_tower).linear
    features = {name: tf.constant(array) for name, array in table.take(np.arange(len(table)), tower.inputs).items()}
    designs = linear.designs(features)
    targets = np.random.default_rng(4).normal(size=(len(table), linear.dim)).astype(np.float32)
    linear.solve(designs, targets)
    before = linear.imputed["audio"].numpy()
    strong = AdversaryConfig(method="fgsm", audio=1.0, video=20.0, text=0.5, embedding=0.5)
    harden(tower, strong, designs, targets, partial(some, features))
    hardened = linear.imputed["audio"].numpy()
    linear.impute(designs)
    np.testing.assert_array_equal(hardened, linear.imputed["audio"])
    assert np.abs(hardened - before).max() > 1e-3


@pytest.mark.slow
def test_the_encoders_train_against_the_adversary_too(table, train_split, tiny, monkeypatch):
    """With an adversary, errors are those under attack as well, and the encoders' steps lower them."""
    monkeypatch.setattr("trainer.content.fit._MIN_ITEMS", 1)
    adversary = AdversaryConfig(method="fgsm", **RADII)
    config = dataclasses.replace(
        tiny.CONFIG, content_epochs=4, content_min_items=0, content_learning_rate=3e-3, adversary=adversary
    )
    reports = {}
    for name, settings in (("plain", dataclasses.replace(config, adversary=None)), ("hard", config)):
        tower = build(table, train_split, tiny.DATA, settings).item_tower
        reports[name] = fit_content(tower, table, np.arange(len(table)), settings)
    assert reports["hard"].linear > reports["plain"].linear
    assert reports["hard"].with_encoders <= reports["hard"].linear


def test_a_radius_below_zero_is_refused():
    with pytest.raises(ValueError, match="radius"):
        AdversaryConfig(audio=-1.0)
