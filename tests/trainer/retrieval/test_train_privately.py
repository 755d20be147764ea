"""DP-SGD by person: what one person can change, how much noise there is, and that without both it is plain training."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from components.datasets.interactions import Interactions
from components.settings import to_json
from trainer.config.engine import EngineConfig
from trainer.config.privacy import DifferentialConfig, check_private
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.privacy_report import PrivacyReport
from trainer.retrieval.model import Retrieval
from trainer.retrieval.run import build, run_fn
from trainer.retrieval.train import content_frozen, fit_interactions
from trainer.retrieval.train_privately import (
    PeopleBatches,
    clip_scale,
    clipped_sum,
    fit_interactions_privately,
    train_privately,
)

STILL = {"history_dropout": 0.0, "modality_dropout": 0.0}  # nothing is random in a step


@pytest.fixture()
def private(table, train_split, tiny):
    """A model for private training, in which nothing but the drawing of people is random."""
    return build(table, train_split, tiny.DATA, replace(tiny.CONFIG, **STILL), private=True)


@pytest.fixture()
def tiny(tiny):
    """With words as the only content, which are quick to build."""
    return SimpleNamespace(DATA=tiny.DATA, CONFIG=replace(tiny.CONFIG, modalities=("text",)))


def sum_of(model: Retrieval, split: Interactions, table: ItemTable, clip: float) -> np.ndarray:
    """The clipped sum over all people, as one vector."""
    with content_frozen(model):
        batches = list(PeopleBatches(split, table, model, seed=0).draw(1.0))
        summed = tf.function(lambda batch: clipped_sum(model, batch, clip))
        sums = [summed(batch) for batch in batches]
    return np.concatenate([np.ravel(sum(parts)) for parts in zip(*sums)])


@pytest.mark.parametrize("clip", [0.01, 0.1])
def test_a_person_more_changes_the_sum_by_at_most_the_clip(private, train_split, table, clip):
    everybody = sum_of(private, train_split, table, clip)
    for absent in (0, 7):
        others = train_split.select(np.delete(np.arange(len(train_split)), absent))
        change = np.linalg.norm(everybody - sum_of(private, others, table, clip))
        assert 0.5 * clip < change <= clip * (1 + 1e-4)


def test_a_person_with_many_interactions_counts_with_the_latest_window_alone(private, train_split, table):
    busy = train_split.select(np.array([0]))
    items = np.arange(30, dtype=np.int32) % len(table)
    columns = {name: np.resize(getattr(busy, name), 30) for name in ("events", "weights", "positives", "values")}
    times_s = np.arange(30, dtype=np.float64)
    longer = replace(busy, items=items, times_s=times_s, splits=np.array([0, 30]), **columns)
    change = np.linalg.norm(sum_of(private, longer, table, 0.05))
    assert change <= 0.05 * (1 + 1e-4)
    latest = PeopleBatches(longer, table, private, seed=0)
    (batch,) = latest.draw(1.0)
    assert batch["items"].numpy()[0].tolist() == items[-8:].tolist()


def test_the_clip_is_of_all_variables_together_and_leaves_small_gradients_alone():
    assert clip_scale(tf.constant(2.0), 0.5).numpy() == pytest.approx(0.25)
    assert clip_scale(tf.constant(0.1), 0.5).numpy() == 1.0
    assert clip_scale(tf.constant(float("nan")), 0.5).numpy() == 0.0


def test_a_person_whose_gradient_is_not_finite_adds_nothing(private, train_split, table):
    endless = replace(train_split, weights=np.array(train_split.weights))
    endless.weights[: endless.splits[1]] = np.inf
    others = train_split.select(np.arange(1, len(train_split)))
    np.testing.assert_allclose(sum_of(private, endless, table, 0.1), sum_of(private, others, table, 0.1), atol=1e-6)


def test_without_clip_and_noise_the_sum_is_the_gradient_of_plain_training(private, train_split, table):
    everybody = sum_of(private, train_split, table, np.inf) / len(train_split)
    with content_frozen(private):
        (batch,) = PeopleBatches(train_split, table, private, seed=0).draw(1.0)
        with tf.GradientTape() as tape:
            loss = private.compute_loss(batch, training=True)
        plain = tape.gradient(loss, private.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    np.testing.assert_allclose(
        everybody, np.concatenate([np.ravel(tf.convert_to_tensor(one)) for one in plain]), atol=1e-6
    )


def test_without_clip_and_noise_full_batches_give_the_weights_of_plain_training(train_split, table, tiny):
    config = replace(tiny.CONFIG, **STILL, batch_size=len(train_split), epochs=4)
    plain, private = (build(table, train_split, tiny.DATA, config, private=True) for _ in range(2))
    nobody = train_split.select(np.zeros(0, np.int64))
    fit_interactions(plain, train_split, nobody, table)
    settings = DifferentialConfig(np.inf, 1e-5, epochs=4, learning_rate=config.learning_rate)
    report = PrivacyReport(np.inf, 1e-5, 0.0, np.inf, 1.0, 4, len(train_split))
    with content_frozen(private):
        fit_interactions_privately(private, train_split, table, settings, report)
    np.testing.assert_allclose(private.item_tower.encode_ids(table), plain.item_tower.encode_ids(table), atol=1e-4)


def test_the_device_of_a_strategy_takes_the_private_steps(train_split, table, tiny):
    """In its scope the weights are those without it."""
    config = replace(tiny.CONFIG, **STILL, epochs=2)
    settings = DifferentialConfig(np.inf, 1e-5, epochs=2)
    report = PrivacyReport(np.inf, 1e-5, 0.0, 0.1, 1.0, 2, len(train_split))
    found = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.OneDeviceStrategy("/cpu:0")):
        with strategy.scope():
            model = build(table, train_split, tiny.DATA, config, private=True)
            with content_frozen(model):
                fit_interactions_privately(model, train_split, table, settings, report, seed=1)
        found.append(model.item_tower.encode_ids(table))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_the_noise_has_the_deviation_of_the_plan(private, table, train_split, monkeypatch):
    """Steps of nobody are steps of noise alone, whose size plain gradient descent writes into the weights."""
    descent = tf.keras.optimizers.SGD(1.0)
    monkeypatch.setattr("trainer.retrieval.train_privately.optimizer_of", lambda *_: descent)
    nobody = train_split.select(np.zeros(0, np.int64))
    report = PrivacyReport(1.0, 1e-5, noise_multiplier=3.0, clip=0.5, sampling_rate=0.1, steps=40, people=20)
    before = private.item_tower.id_embedding.embeddings.numpy()
    with content_frozen(private):
        fit_interactions_privately(private, nobody, table, DifferentialConfig(1.0, 1e-5, epochs=2), report, seed=5)
    moved = private.item_tower.id_embedding.embeddings.numpy() - before
    expected = 3.0 * 0.5 / (0.1 * 20) * np.sqrt(40)  # noise x clip / expected people, over 40 steps
    assert moved.std() == pytest.approx(expected, rel=0.25)  # of 104 values: three standard errors
    assert abs(moved.mean()) < 4 * expected / np.sqrt(moved.size)


def test_each_person_is_drawn_with_the_same_chance_independently(private, table, train_split):
    people = PeopleBatches(train_split, table, private, seed=3)
    sizes = [sum(int((batch["items"].numpy() >= 0).any(1).sum()) for batch in people.draw(0.25)) for _ in range(300)]
    assert np.mean(sizes) == pytest.approx(6.0, abs=0.5)  # of 24
    assert np.var(sizes) == pytest.approx(24 * 0.25 * 0.75, rel=0.35)  # binomial: not a fixed number


def test_nothing_of_an_untrained_private_model_depends_on_who_did_what(table, train_split, tiny):
    half = train_split.select(np.arange(0, len(train_split), 2))  # they take even items only
    first, second = (build(table, split, tiny.DATA, tiny.CONFIG, private=True) for split in (train_split, half))
    for one, other in zip(first.variables, second.variables):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    np.testing.assert_array_equal(first.item_share.numpy(), second.item_share.numpy())
    np.testing.assert_array_equal(
        first.item_tower.interaction_counts.numpy(), second.item_tower.interaction_counts.numpy()
    )


def test_a_private_model_learns_and_reports_what_it_spent(table, train_split, tiny, caplog):
    model = build(table, train_split, tiny.DATA, replace(tiny.CONFIG, content_epochs=0), private=True)
    settings = DifferentialConfig(epsilon=8.0, delta=0.1, people_per_step=12, epochs=3, content_share=0.5)
    with caplog.at_level(logging.WARNING):
        report = train_privately(model, train_split, table, settings, seed=1)
    assert (report.steps, report.sampling_rate) == (6, 0.5)
    assert 0 < report.epsilon <= 8.0
    assert "delta: 0.1 is not below 1 / 24 people" in caplog.text
    assert np.isfinite(model.item_tower.encode(table)).all()
    assert model.item_tower.shrinkage.numpy() == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "full_softmax"}, "got retrieval.loss full_softmax"),
        ({"use_user_id": True}, "use_user_features and use_user_id"),
        ({"use_user_features": True}, "expected both to be off"),
    ],
)
def test_settings_that_go_round_the_private_steps_are_refused(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        check_private(replace(tiny.CONFIG, **settings), EngineConfig())


def test_sixteen_bit_arithmetic_is_refused(tiny):
    with pytest.raises(ValueError, match="engine.precision"):
        check_private(tiny.CONFIG, EngineConfig(precision="mixed_bfloat16"))


def test_several_devices_or_workers_are_refused_before_anything_is_read(run_arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.retrieval.run.strategy_for", lambda _: SimpleNamespace(num_replicas_in_sync=2))
    arguments = run_arguments(tmp_path, tmp_path / "checkpoints")
    arguments["custom_config"]["privacy"] = to_json(DifferentialConfig(epsilon=8.0, delta=0.1, epochs=1))
    with pytest.raises(ValueError, match="got 2 replicas, expected one device"):
        run_fn(SimpleNamespace(**arguments))
    assert not list(tmp_path.iterdir())


def test_the_entry_point_trains_privately_on_the_device_of_the_settings(run_arguments, tiny, tmp_path, monkeypatch):
    devices = []

    def noted(*arguments):
        devices.extend(tf.distribute.get_strategy().extended.worker_devices)
        return train_privately(*arguments)

    monkeypatch.setattr("trainer.retrieval.train_privately.train_privately", noted)
    arguments = run_arguments(tmp_path, tmp_path / "checkpoints", tiny.CONFIG, EngineConfig(device="cpu"))
    arguments["custom_config"]["privacy"] = to_json(DifferentialConfig(epsilon=8.0, delta=0.01, epochs=1))
    run_fn(SimpleNamespace(**arguments))
    assert [device.rpartition("/")[2] for device in devices] == ["device:CPU:0"]
    assert (tmp_path / "model" / "assets.extra" / "privacy.json").exists()
