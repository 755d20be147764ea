"""The training loop: where it stops and what it keeps; ways to compute a step faster take the same step."""

import dataclasses

import numpy as np
import pytest

from components.datasets.interactions import window
from trainer.checkpoints import Progress
from trainer.config.encoder import EncoderConfig
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.keras import tf
from trainer.loop import Stopping, run_epochs
from trainer.retrieval.fitted import Fitted
from trainer.retrieval.run import build
from trainer.retrieval.train import fit_interactions
from trainer.retrieval.validation import user_vectors
from trainer.strategy import local_strategy

STEADY = {
    "modalities": ("tags",),
    "encoder": EncoderConfig(width=8, heads=2, layers=0, dropout=0.0),
    "history_dropout": 0.0,
    "epochs": 2,
    "batch_size": 10,
    "svd_init": False,
}


def _fitted(table, train_split, eval_split, tiny, engine):
    with local_strategy(engine).scope():
        model = build(table, train_split, tiny.DATA, dataclasses.replace(tiny.CONFIG, **STEADY))
        history = fit_interactions(model, train_split, eval_split, table, engine)
    return model, history.history["loss"]


@pytest.fixture()
def plain(table, train_split, eval_split, tiny):
    return _fitted(table, train_split, eval_split, tiny, EngineConfig())


def test_a_compiled_step_is_the_step(table, train_split, eval_split, tiny, plain):
    model, loss = _fitted(table, train_split, eval_split, tiny, EngineConfig(xla=True))
    np.testing.assert_allclose(loss, plain[1], rtol=1e-5)
    np.testing.assert_allclose(model.item_tower.encode_ids(table), plain[0].item_tower.encode_ids(table), atol=1e-4)


def test_16_bits_learn_nearly_the_same_and_are_left_in_the_step(table, train_split, eval_split, tiny, plain):
    """What is called after training multiplies in float32 again: user vectors agree with numpy to seven digits."""
    model, loss = _fitted(table, train_split, eval_split, tiny, EngineConfig(precision="mixed_bfloat16"))
    np.testing.assert_allclose(loss, plain[1], rtol=2e-2)
    vectors = np.random.default_rng(0).normal(size=(len(table), 8)).astype(np.float32)
    items = window(eval_split, np.arange(2), eval_split.num_history[:2], 100).items
    profile = (
        model.user_tower.event_weights.numpy()[2] * vectors[items].sum(1) + model.user_tower.direction_prior.numpy()
    )
    expected = profile / np.linalg.norm(profile, axis=1, keepdims=True)
    np.testing.assert_allclose(user_vectors(model, eval_split, vectors, np.arange(2)), expected, atol=1e-6)


def test_a_scaled_loss_changes_nothing_but_what_would_be_lost(table, train_split, eval_split, tiny, plain, monkeypatch):
    """The float16 way on a CPU: the scaling without the 16 bits."""
    monkeypatch.setattr("trainer.strategy._REWRITES", {"mixed_float16": ("CPU", "disable_meta_optimizer")})
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", lambda options: None)
    model, loss = _fitted(table, train_split, eval_split, tiny, EngineConfig(precision="mixed_float16"))
    assert isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    np.testing.assert_allclose(loss, plain[1], rtol=1e-5)
    np.testing.assert_allclose(model.item_tower.encode_ids(table), plain[0].item_tower.encode_ids(table), atol=1e-5)


def test_a_precision_of_other_devices_is_refused(table, train_split, eval_split, tiny):
    with pytest.raises(ValueError, match="mixed_float16 is for a GPU, and training runs on .*CPU"):
        _fitted(table, train_split, eval_split, tiny, EngineConfig(precision="mixed_float16"))


class Curve:
    """A training whose validation metric is known beforehand; its only weight counts the epochs."""

    def __init__(self, values):
        self.weight, self._values = tf.Variable(0), values

    def train_epoch(self, epoch):
        self.weight.assign(epoch + 1)
        return 10.0 - epoch

    def value(self):
        return self._values[int(self.weight) - 1]

    def run(self, epochs=20, progress=None, **stopping):
        stopping = Stopping("value", self.value, 2, **stopping)
        return run_epochs(self.train_epoch, [self.weight], epochs, stopping, progress=progress)


def test_training_ends_after_so_many_epochs_without_a_better_value_and_keeps_the_best_weights():
    """The best of 1, 3, 2, 3 is the first 3: an equal value is no better one. The fifth epoch is never trained."""
    curve = Curve([1.0, 3.0, 2.0, 3.0, 9.0])
    progress = curve.run()
    assert (progress.epoch, progress.best_epoch, progress.best_value, int(curve.weight)) == (4, 1, 3.0, 2)
    assert [logs["val_value"] for logs in progress.logs] == [1, 3, 2, 3] and progress.logs[0]["loss"] == 10


def test_the_best_weights_stay_also_where_the_epochs_run_out():
    curve = Curve([1.0, 3.0, 2.0])
    assert curve.run(epochs=3).epoch == 3 and int(curve.weight) == 2


def test_an_error_is_better_the_lower_and_the_start_competes():
    """Nothing is lower than the start's 0.5: its weights stay, after `patience` epochs."""
    curve = Curve([0.7, 0.6, 0.1])
    progress = curve.run(higher_is_better=False, start_value=0.5)
    assert (progress.epoch, progress.best_epoch, progress.best_value, int(curve.weight)) == (2, -1, 0.5, 0)
    curve = Curve([0.7, 0.4, 0.45, 0.46])
    assert curve.run(higher_is_better=False, start_value=0.5).best_epoch == 1 and int(curve.weight) == 2


def test_a_start_that_no_early_epoch_beats_has_a_patience_of_its_own():
    """One epoch worse than the start's 0.5 ends training; after a better one, two worse epochs do."""
    curve = Curve([0.7, 0.4, 0.1])
    progress = curve.run(higher_is_better=False, start_value=0.5, start_patience=1)
    assert (progress.epoch, progress.best_epoch, int(curve.weight)) == (1, -1, 0)
    curve = Curve([0.4, 0.7, 0.7, 0.1])
    progress = curve.run(higher_is_better=False, start_value=0.5, start_patience=1)
    assert (progress.epoch, progress.best_epoch, int(curve.weight)) == (3, 0, 1)


def test_without_a_metric_the_last_weights_stay():
    curve = Curve([])
    progress = run_epochs(curve.train_epoch, [curve.weight], 3)
    assert int(curve.weight) == 3 and progress.logs == [{"loss": 10.0}, {"loss": 9.0}, {"loss": 8.0}]


def test_a_value_that_is_never_a_number_stops_nothing_and_chooses_nothing():
    curve = Curve([np.nan] * 5)
    assert curve.run(epochs=5).epoch == 5 and int(curve.weight) == 5
    logs = {"loss": [3.0] * 5, f"val_{RetrievalConfig().metric}": [np.nan] * 5}
    assert Fitted.of(RetrievalConfig(), logs).epochs == 5
    curve = Curve([np.nan, 3.0, 2.0, 1.0, 9.0])
    assert curve.run().best_epoch == 1 and int(curve.weight) == 2


def test_training_goes_on_where_another_attempt_was():
    """After two of four epochs, with the best value of the first attempt in mind."""
    first, second = Curve([5.0, 1.0, 2.0, 3.0]), Curve([5.0, 1.0, 2.0, 3.0])
    progress = Progress()
    progress.deserialize(first.run(epochs=1).serialize())
    progress.is_done = False
    assert second.run(progress=progress).epoch == 3 and int(second.weight) == 1
