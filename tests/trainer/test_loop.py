"""Ways to compute a step faster take the same step."""

import dataclasses

import numpy as np
import pytest

from components.datasets.interactions import window
from trainer.config.encoder import EncoderConfig
from trainer.config.engine import EngineConfig
from trainer.keras import tf
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
