"""Rankers with a head for each objective: logistic regression, the factorisation machine, and DeepFM (Guo et al.,
2017).

R rows, F fields, O objectives, W embedding_dim of a field.
"""

from __future__ import annotations

import numpy as np

from trainer.config.ranking import RankingConfig
from trainer.keras import tf
from trainer.ranking.features import POSITIONS, Encoder


class FieldVectors(tf.keras.layers.Layer):
    """An embedding for each field: of its category, of its number times the number, and of the towers' product."""

    def __init__(self, encoder: Encoder, width: int, **kwargs):
        super().__init__(**kwargs)
        self.categories = tf.keras.layers.Embedding(sum(encoder.sizes), width, embeddings_initializer=_small())
        self.numbers = self.add_weight("numbers", [encoder.num_dense, width], initializer=_small())
        self.project = tf.keras.layers.Dense(width, use_bias=False)

    def call(self, inputs):
        """The fields' embeddings: float32 [R, F, width]. inputs: as `Encoder` returns them."""
        numbers = inputs["dense"][:, :, None] * self.numbers
        return tf.concat([self.categories(inputs["ids"]), numbers, self.project(inputs["product"])[:, None]], 1)


def _small() -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.RandomNormal(stddev=0.01)


def pairwise(vectors):
    """The sum over all pairs of fields of the products of their embeddings, in linear time: float [R, F, W] -> float
    [R, W].

    Source: Rendle, Factorization Machines, 2010.
    """
    return (tf.square(tf.reduce_sum(vectors, 1)) - tf.reduce_sum(tf.square(vectors), 1)) / 2


class LogisticRegression(tf.keras.Model):
    """The first order of the fields, and a bias for the position in retrieval's list.

    The position is hidden from a share of the training rows and always when serving, so that the fields need not
    explain it (Zhao et al., 2019).
    """

    name_in_tables = "logistic_regression"

    def __init__(self, encoder: Encoder, base_rates: np.ndarray, config: RankingConfig):
        """base_rates: float [O], share of training rows that are positive, where the biases start."""
        super().__init__()
        self.config = config
        self.num_objectives = len(base_rates)
        rates = np.clip(base_rates, 1e-4, 1 - 1e-4)
        self.bias = self.add_weight(
            "bias", [self.num_objectives], initializer=tf.keras.initializers.Constant(np.log(rates / (1 - rates)))
        )
        self.first_order = FieldVectors(encoder, self.num_objectives)
        self.position_bias = tf.keras.layers.Embedding(
            len(POSITIONS) + 1, self.num_objectives, embeddings_initializer="zeros"
        )

    def call(self, inputs, training=False):
        """The logits of the objectives: float32 [R, O]. inputs: as `Encoder` returns them."""
        position = inputs["position"]
        if training:
            position = tf.where(tf.random.uniform(tf.shape(position)) < self.config.position_dropout, 0, position)
        return self.of_fields(self.fields(inputs), training) + self.position_bias(position)

    def fields(self, inputs):
        """The fields' embeddings, float [R, F, width] each: of the first order, then of the orders above it."""
        return [self.first_order(inputs)]

    def of_fields(self, fields, training):
        """The logits but for the position's bias: float32 [R, O]. fields: as `fields` returns them."""
        del training
        return self.bias + tf.reduce_sum(fields[0], 1)


class FactorizationMachine(LogisticRegression):
    """The first order and all pairs of fields; each head weighs the dimensions of the shared embeddings."""

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
    """A factorisation machine and a deep network over the same embeddings."""

    name_in_tables = "deepfm"

    def __init__(self, encoder: Encoder, base_rates: np.ndarray, config: RankingConfig):
        super().__init__(encoder, base_rates, config)
        layers = [tf.keras.layers.Flatten()]
        for units in config.hidden:
            layers += [tf.keras.layers.Dense(units, activation="relu"), tf.keras.layers.Dropout(config.dropout)]
        self.deep = tf.keras.Sequential([*layers, tf.keras.layers.Dense(self.num_objectives)])

    def of_fields(self, fields, training):
        return super().of_fields(fields, training) + self.deep(fields[1], training=training)
