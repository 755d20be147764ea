"""Training of a ranker on examples, with early stopping on held-out ones.

R rows, O objectives.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.config.ranking import RankingConfig
from trainer.keras import tf
from trainer.loop import ProgressBar, Stopping, run_epochs
from trainer.ranking.deepfm import LogisticRegression
from trainer.ranking.features import POSITION, SEEN_BY_RETRIEVAL, Encoder, RankingExamples

_AT_ONCE = 8192  # rows


def train_ranker(
    kind: type[LogisticRegression],
    encoder: Encoder,
    train: RankingExamples,
    valid: RankingExamples,
    config: RankingConfig,
    log_dir: Path | None = None,
) -> LogisticRegression:
    """Trains a ranker until the loss on `valid` stops falling, where the position is hidden, as when serving.

    Where positions are those at which people saw the items, they are always told: that an item was taken or not is then
    explained by its position and by its fields together, and when serving the fields are left (Zhao et al., 2019). To
    hide positions would put the bias of the lists back into the fields, in training as in the loss that stops it.
    """
    if train.positions_shown:
        config = replace(config, position_dropout=0.0)
    tf.keras.utils.set_random_seed(config.seed)
    inputs, labels = encoded(encoder, train.features), train.labels
    model = kind(encoder, labels.mean(0), config)
    has_both = tf.constant((labels.min(0) < labels.max(0)).astype(np.float32))

    def loss(truth, logits):
        return tf.reduce_sum(has_both * tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), 1)

    model.compile(tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay), loss)
    batches = _shuffled((inputs, labels), config.batch_size, config.seed)
    stream = iter(tf.distribute.get_strategy().experimental_distribute_dataset(batches))
    step = model.make_train_function()

    def train_epoch(epoch: int) -> float:
        model.reset_metrics()
        for _ in range(-(-len(labels) // config.batch_size)):
            logs = step(stream)
        return float(logs["loss"])

    asked = as_served(encoder, valid)
    loss_of = tf.function(
        lambda inputs, truth: tf.reduce_sum(loss(truth, model(inputs, training=False))), reduce_retracing=True
    )

    def held_out_loss() -> float:
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(valid.labels), _AT_ONCE)]
        sums = [loss_of({name: array[part] for name, array in asked.items()}, valid.labels[part]) for part in parts]
        return float(sum(sums)) / len(valid.labels)

    stopping = Stopping("loss", held_out_loss, config.patience, higher_is_better=False)
    callbacks = [
        ProgressBar("ranker"),
        *([tf.keras.callbacks.TensorBoard(log_dir, write_graph=False)] if log_dir else []),
    ]
    model({name: array[:1] for name, array in inputs.items()})  # builds every variable
    run_epochs(train_epoch, model.variables, config.epochs, stopping, callbacks, model)
    return model


def _shuffled(data: tuple[dict[str, np.ndarray], np.ndarray], size: int, seed: int) -> tf.data.Dataset:
    """Batches of all rows in a new order each epoch, without end. The rows' numbers are shuffled, not the rows."""
    data = tf.nest.map_structure(tf.constant, data)
    count = len(data[1])
    numbers = tf.data.Dataset.range(count).shuffle(count, seed).batch(size).repeat()
    return numbers.map(lambda rows: tf.nest.map_structure(lambda values: tf.gather(values, rows), data)).prefetch(2)


def encoded(encoder: Encoder, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Encodes the features of many rows: the encoder's outputs as arrays."""
    parts = []
    for start in range(0, len(features["time_s"]), _AT_ONCE):
        part = encoder({name: tf.constant(values[start : start + _AT_ONCE]) for name, values in features.items()})
        parts.append({name: value.numpy() for name, value in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_served(encoder: Encoder, examples: RankingExamples) -> dict[str, np.ndarray]:
    """As `encoded`, with what is unknown when serving hidden: whether retrieval has seen the target, and the position.

    The position stays where people saw the items at it: without it their choices cannot be told apart from the order.
    """
    zeros = np.zeros(len(examples.labels), np.int64)
    hidden = {SEEN_BY_RETRIEVAL: zeros} | ({} if examples.positions_shown else {POSITION: zeros})
    return encoded(encoder, examples.features | hidden)


def logits_as_served(model: LogisticRegression, encoder: Encoder, examples: RankingExamples) -> np.ndarray:
    """Logits of `as_served`: float32 [R, O]."""
    return model.predict(tf.data.Dataset.from_tensor_slices(as_served(encoder, examples)).batch(_AT_ONCE), verbose=0)
