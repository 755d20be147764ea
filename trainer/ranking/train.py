"""Training of a ranker on examples, with early stopping on held-out ones.

R rows, O objectives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.config.ranking import RankingConfig
from trainer.keras import tf
from trainer.loop import ProgressBar, Stopping, run_epochs
from trainer.ranking.deepfm import LogisticRegression
from trainer.ranking.features import SEEN_BY_RETRIEVAL, Encoder, RankingExamples

_AT_ONCE = 8192  # rows


def train_ranker(
    kind: type[LogisticRegression],
    encoder: Encoder,
    train: RankingExamples,
    valid: RankingExamples,
    config: RankingConfig,
    log_dir: Path | None = None,
) -> LogisticRegression:
    """Trains a ranker until the loss on `valid` stops falling, where the position is hidden, as when serving."""
    tf.keras.utils.set_random_seed(config.seed)
    inputs, labels = encoded(encoder, train.features), train.labels
    model = kind(encoder, labels.mean(0), config)
    has_both = tf.constant((labels.min(0) < labels.max(0)).astype(np.float32))

    def loss(truth, logits):
        return tf.reduce_sum(has_both * tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), 1)

    model.compile(tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay), loss)
    rows = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(len(labels), config.seed)
    batches = tf.distribute.get_strategy().experimental_distribute_dataset(rows.batch(config.batch_size).prefetch(2))
    held_out = tf.data.Dataset.from_tensor_slices((as_served(encoder, valid.features), valid.labels)).batch(_AT_ONCE)
    step = model.make_train_function()

    def train_epoch(epoch: int) -> float:
        model.reset_metrics()
        stream = iter(batches)
        for _ in range(-(-len(labels) // config.batch_size)):
            logs = step(stream)
        return float(logs["loss"])

    stopping = Stopping("loss", lambda: model.evaluate(held_out, verbose=0), config.patience, higher_is_better=False)
    callbacks = [
        ProgressBar("ranker"),
        *([tf.keras.callbacks.TensorBoard(log_dir, write_graph=False)] if log_dir else []),
    ]
    model(next(iter(batches))[0])  # builds every variable
    run_epochs(train_epoch, model.variables, config.epochs, stopping, callbacks, model)
    return model


def encoded(encoder: Encoder, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Encodes the features of many rows: the encoder's outputs as arrays."""
    parts = []
    for start in range(0, len(features["time_s"]), _AT_ONCE):
        part = encoder({name: tf.constant(values[start : start + _AT_ONCE]) for name, values in features.items()})
        parts.append({name: value.numpy() for name, value in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_served(encoder: Encoder, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `encoded`, with the position hidden and whether retrieval has seen the target: both unknown when serving."""
    zeros = np.zeros(len(features["time_s"]), np.int32)
    return encoded(encoder, features | {SEEN_BY_RETRIEVAL: zeros.astype(np.int64)}) | {"position": zeros}


def logits_as_served(model: LogisticRegression, encoder: Encoder, features: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of features as they are when serving: float32 [R, O]."""
    return model.predict(tf.data.Dataset.from_tensor_slices(as_served(encoder, features)).batch(_AT_ONCE), verbose=0)
