"""What the encoders of all modalities share: standardised statistics, pooling of bags, and Transformer blocks led by a summary token.

B items, P tokens, W width, E statistics.
"""

from __future__ import annotations

import keras_nlp
import numpy as np

from trainer.config.retrieval import EncoderConfig
from trainer.keras import tf

STANDARDISED_LIMIT = 4.0  # standard deviations: one odd file must not outweigh everything else


class Standardise(tf.keras.layers.Layer):
    """(x - mean) / deviation of each column, as measured on the training items, within +-STANDARDISED_LIMIT; constant columns give 0."""

    def build(self, input_shape):
        self.mean = self.add_weight("mean", input_shape[-1:], initializer="zeros", trainable=False)
        self.inverse_deviation = self.add_weight(
            "inverse_deviation", input_shape[-1:], initializer="ones", trainable=False
        )
        super().build(
            input_shape
        )  # says that it is built: `fit` may come before the first call, which must not build anew

    def fit(self, rows: np.ndarray) -> None:
        """Measure float [R, E]; nothing changes where there are no rows."""
        if not self.built:
            self.build(rows.shape)
        if not len(rows):
            return
        deviation = rows.astype(np.float64).std(0)
        varies = deviation > 1e-6 * np.maximum(np.abs(rows).max(0), 1e-3)
        self.mean.assign(rows.mean(0))
        self.inverse_deviation.assign(np.where(varies, 1 / np.where(varies, deviation, 1), 0))

    def size(self):
        """Root mean square of a value, as measured."""
        deviation = tf.math.divide_no_nan(1.0, self.inverse_deviation)
        return tf.sqrt(tf.reduce_mean(self.mean**2 + deviation**2))

    def call(self, inputs):
        return tf.clip_by_value((inputs - self.mean) * self.inverse_deviation, -STANDARDISED_LIMIT, STANDARDISED_LIMIT)


class Summary(tf.keras.layers.Layer):
    """Transformer blocks over a summary token and the tokens of the content; gives the refined summary token [B, W].

    The blocks are residual and start small, so that the summary (statistics, a bag of words) passes through from the first step on,
    and attention adds to it what it finds: with a few hundred items that order matters.
    """

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.blocks = transformer_blocks(config.layers, config)

    def call(self, summary, tokens, mask, training=None):
        """summary: [B, W]; tokens: [B, P, W]; mask: bool [B, P], False where there is no token."""
        return self.refine(summary, tokens, mask, training=training)[:, 0]

    def refine(self, summary, tokens, mask, training=None):
        """As `call`, but every refined token: [B, 1 + P, W], the summary first."""
        tokens = tf.concat([summary[:, None], tokens], 1)  # [B, 1 + P, W]
        mask = tf.concat([tf.ones_like(mask[:, :1]), mask], 1)
        for block in self.blocks:
            tokens = block(tokens, padding_mask=mask, training=training)
        return tokens


def transformer_blocks(count: int, config: EncoderConfig) -> list[tf.keras.layers.Layer]:
    """KerasNLP Transformer encoder blocks, normalised first and started small."""
    return [
        keras_nlp.layers.TransformerEncoder(
            intermediate_dim=2 * config.width,
            num_heads=config.heads,
            dropout=config.dropout,
            activation="gelu",
            normalize_first=True,
            kernel_initializer=tf.keras.initializers.RandomNormal(stddev=0.02),
        )
        for _ in range(count)
    ]


def embedding(size: int, config: EncoderConfig) -> tf.keras.layers.Embedding:
    """Vectors of a vocabulary, started near zero: a word that no training item has says next to nothing."""
    return tf.keras.layers.Embedding(size, config.width, embeddings_initializer=near_zero())


def near_zero() -> tf.keras.initializers.Initializer:
    """A new initializer of small normal values."""
    return tf.keras.initializers.RandomNormal(stddev=0.01)


def bag(vectors, mask):
    """Sum over the tokens divided by the root of their number: float [B, P, W], bool [B, P] -> [B, W]; zeros where there are none."""
    mask = tf.cast(mask, vectors.dtype)[..., None]
    return tf.reduce_sum(vectors * mask, 1) / tf.sqrt(tf.maximum(tf.reduce_sum(mask, 1), 1.0))


def keep_some(tokens, mask, share: float, training):
    """In training a random `share` of the tokens, in any order; else all of them. tokens: [B, P, ...], P static; mask: bool [B, P]."""
    num_tokens = tokens.shape[1]
    kept = max(int(np.ceil(share * num_tokens)), 1)
    if not training or kept == num_tokens:
        return tokens, mask
    lottery = tf.random.uniform(tf.shape(mask)) + tf.cast(mask, tf.float32)  # tokens that are there come first
    chosen = tf.math.top_k(lottery, kept).indices
    return tf.gather(tokens, chosen, batch_dims=1), tf.gather(mask, chosen, batch_dims=1)


def masked_mean(values, mask, axis):
    """Mean of `values` where `mask` (float, broadcastable) is 1; 0 where it is 0 throughout."""
    weights = tf.broadcast_to(mask, tf.shape(values))
    return tf.reduce_sum(values * weights, axis) / tf.maximum(tf.reduce_sum(weights, axis), 1.0)
