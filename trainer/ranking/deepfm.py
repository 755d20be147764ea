"""DeepFM (Guo et al., 2017) with a head for each objective, and what it grows from: logistic regression and the factorisation machine.

R rows, F fields, O objectives, W embedding_dim, D dimensions of the towers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import optimize
from scipy.stats import rankdata

from trainer.config.ranking import RankingConfig
from trainer.keras import tf
from trainer.ranking.features import FITTED, POSITIONS, Encoder


class FieldVectors(tf.keras.layers.Layer):
    """A vector for each field: of its category, of its number times the number, and the projected product of the towers' vectors."""

    def __init__(self, encoder: Encoder, width: int, **kwargs):
        super().__init__(**kwargs)
        self.categories = tf.keras.layers.Embedding(sum(encoder.sizes), width, embeddings_initializer=_small())
        self.numbers = self.add_weight("numbers", [encoder.num_dense, width], initializer=_small())
        self.project = tf.keras.layers.Dense(width, use_bias=False)

    def call(self, inputs):
        """inputs: as `Encoder` returns them -> float32 [R, F, width]."""
        numbers = inputs["dense"][:, :, None] * self.numbers
        return tf.concat([self.categories(inputs["ids"]), numbers, self.project(inputs["product"])[:, None]], 1)


def _small() -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.RandomNormal(stddev=0.01)


def pairwise(vectors):
    """The sum over all pairs of fields of the products of their vectors, in linear time: [R, F, W] -> [R, W] (Rendle, 2010)."""
    return (tf.square(tf.reduce_sum(vectors, 1)) - tf.reduce_sum(tf.square(vectors), 1)) / 2


class LogisticRegression(tf.keras.Model):
    """The first order, and where the item stood in retrieval's list.

    The place is a bias of its own beside the rest, hidden from a share of the training rows and always when serving, so that the rest
    need not explain it (Zhao et al., 2019).
    """

    name_in_tables = "logistic_regression"

    def __init__(self, encoder: Encoder, base_rates: np.ndarray, config: RankingConfig):
        """base_rates: [O], share of training rows that are positive, where the biases start."""
        super().__init__()
        self.config = config
        self.num_objectives = len(base_rates)
        rates = np.clip(base_rates, 1e-4, 1 - 1e-4)
        self.bias = self.add_weight(
            "bias", [self.num_objectives], initializer=tf.keras.initializers.Constant(np.log(rates / (1 - rates)))
        )
        self.first_order = FieldVectors(encoder, self.num_objectives)
        self.place = tf.keras.layers.Embedding(len(POSITIONS) + 1, self.num_objectives, embeddings_initializer="zeros")

    def call(self, inputs, training=False):
        """inputs: as `Encoder` returns them -> logits float32 [R, O]."""
        place = inputs["position"]
        if training:
            place = tf.where(tf.random.uniform(tf.shape(place)) < self.config.position_dropout, 0, place)
        return self.of_fields(self.fields(inputs), training) + self.place(place)

    def fields(self, inputs):
        """The vectors of the fields, [R, F, width] each: of the first order, then of what is above it."""
        return [self.first_order(inputs)]

    def of_fields(self, fields, training):
        """What the fields' vectors say: logits float32 [R, O], but for the place in the list."""
        del training
        return self.bias + tf.reduce_sum(fields[0], 1)


class FactorizationMachine(LogisticRegression):
    """The first order and all pairs of fields; each head weighs the dimensions of the shared vectors."""

    name_in_tables = "fm"

    def __init__(self, encoder: Encoder, base_rates: np.ndarray, config: RankingConfig):
        super().__init__(encoder, base_rates, config)
        self.vectors = FieldVectors(encoder, config.embedding_dim)
        self.heads = self.add_weight("heads", [config.embedding_dim, self.num_objectives], initializer="ones")

    def fields(self, inputs):
        return [*super().fields(inputs), self.vectors(inputs)]

    def of_fields(self, fields, training):
        return super().of_fields(fields, training) + pairwise(fields[1]) @ self.heads


class DeepFM(FactorizationMachine):
    """And a deep part over the same vectors."""

    name_in_tables = "deepfm"

    def __init__(self, encoder: Encoder, base_rates: np.ndarray, config: RankingConfig):
        super().__init__(encoder, base_rates, config)
        layers = [tf.keras.layers.Flatten()]
        for units in config.hidden:
            layers += [tf.keras.layers.Dense(units, activation="relu"), tf.keras.layers.Dropout(config.dropout)]
        self.deep = tf.keras.Sequential([*layers, tf.keras.layers.Dense(self.num_objectives)])

    def of_fields(self, fields, training):
        return super().of_fields(fields, training) + self.deep(fields[1], training=training)


def train_ranker(
    kind: type[LogisticRegression],
    encoder: Encoder,
    train: tuple[dict[str, np.ndarray], np.ndarray],
    valid: tuple[dict[str, np.ndarray], np.ndarray],
    config: RankingConfig,
    log_dir: Path | None = None,
) -> LogisticRegression:
    """Train one of the three; the place in the list is hidden in validation, as it is when serving.

    train, valid: features as read (`read_examples`) and labels [R, O].
    """
    tf.keras.utils.set_random_seed(config.seed)
    inputs, labels = encoded(encoder, train[0]), train[1]
    model = kind(encoder, labels.mean(0), config)
    has_both = tf.constant((labels.min(0) < labels.max(0)).astype(np.float32))

    def loss(truth, logits):
        return tf.reduce_sum(has_both * tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), 1)

    model.compile(tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay), loss)
    rows = (
        tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(len(labels), config.seed).batch(config.batch_size)
    ).prefetch(2)
    callbacks = [tf.keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True)]
    if log_dir is not None:
        callbacks.append(tf.keras.callbacks.TensorBoard(log_dir, write_graph=False))
    held_out = tf.data.Dataset.from_tensor_slices((as_served(encoder, valid[0]), valid[1])).batch(8192)
    model.fit(rows, epochs=config.epochs, validation_data=held_out, callbacks=callbacks, verbose=0)
    return model


def encoded(encoder: Encoder, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features of many rows through the encoder, as arrays."""
    parts = []
    for start in range(0, len(features["time_s"]), 8192):
        part = encoder({name: tf.constant(values[start : start + 8192]) for name, values in features.items()})
        parts.append({name: value.numpy() for name, value in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_served(encoder: Encoder, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`encoded`, with what is not known when serving hidden: the place in the list, and whether retrieval was fitted on the target."""
    places = np.zeros(len(features["time_s"]), np.int32)
    return encoded(encoder, features | {FITTED: places.astype(np.int64)}) | {"position": places}


def logits_as_served(model: LogisticRegression, encoder: Encoder, features: dict[str, np.ndarray]) -> np.ndarray:
    """Logits [R, O] of features as they are when serving."""
    return model.predict(tf.data.Dataset.from_tensor_slices(as_served(encoder, features)).batch(8192), verbose=0)


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Slope and shift of each head's logits that fit held-out labels best: float32 [2, O] (Platt, 1999).

    A head with one class only keeps its logits: there is nothing to fit.
    """
    fitted = []
    for logit, truth in zip(logits.T.astype(np.float64), labels.T):
        if truth.min() == truth.max():
            fitted.append((1.0, 0.0))
            continue

        def loss(parameters, logit=logit, truth=truth):
            moved = parameters[0] * logit + parameters[1]
            error = 1 / (1 + np.exp(-moved)) - truth
            return np.mean(np.logaddexp(0, moved) - truth * moved), np.array([np.mean(error * logit), np.mean(error)])

        fitted.append(
            tuple(optimize.minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=[(0.05, 20), (-20, 20)]).x)
        )
    return np.array(fitted, np.float32).T


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve, ties count half; None (undefined) where there is one class only, with a warning that gives the counts."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        logging.warning("AUC is undefined: %d positive and %d negative labels", positives, negatives)
        return None
    ranks = rankdata(scores)
    return float((ranks[labels > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood in nats."""
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal size (Naeini et al., 2015)."""
    order = np.argsort(probabilities, kind="stable")
    parts: Sequence[np.ndarray] = np.array_split(order, bins)
    gaps = [len(part) * abs(probabilities[part].mean() - labels[part].mean()) for part in parts if len(part)]
    return float(sum(gaps) / len(order))
