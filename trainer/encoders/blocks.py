"""What the encoders of all modalities share: standardisation, pooling of bags, and Transformer blocks over a CLS token.

B items, P tokens, W width of a token, E statistics.
"""

from __future__ import annotations

import numpy as np

from trainer.config.encoder import EncoderConfig
from trainer.keras_nlp import keras_nlp, tf

STANDARDISED_LIMIT = 4.0  # standard deviations: one odd file must not outweigh everything else


class Standardise(tf.keras.layers.Layer):
    """Z-scores of columns, as measured on the training items, within +-STANDARDISED_LIMIT; constant columns give 0."""

    def build(self, input_shape):
        self.mean = self.add_weight("mean", input_shape[-1:], initializer="zeros", trainable=False)
        self.inverse_deviation = self.add_weight(
            "inverse_deviation", input_shape[-1:], initializer="ones", trainable=False
        )
        super().build(input_shape)  # marks it as built: `fit` may come before the first call, which must not build anew

    def fit(self, rows: np.ndarray) -> None:
        """Measures mean and deviation of float [R, E]; nothing changes where there are no rows."""
        if not self.built:
            self.build(rows.shape)
        if len(rows):
            self._assign(rows.mean(0, np.float64), rows.std(0, np.float64), np.abs(rows).max(0))

    def fit_levels(self, levels: np.ndarray, counts: np.ndarray) -> None:
        """As `fit`, of columns that take few values: levels float [K], and how often each does, counts int [E, K]."""
        if not self.built:
            self.build(counts.shape[:1])
        if not counts.any():
            return
        shares = counts / counts.sum(1, keepdims=True)
        mean = shares @ levels.astype(np.float64)
        deviation = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
        self._assign(mean, deviation, np.where(counts > 0, np.abs(levels), 0).max(1))

    def _assign(self, mean: np.ndarray, deviation: np.ndarray, largest: np.ndarray) -> None:
        """Sets the scale of columns, float [E] each; what varies by no more than rounding does is constant."""
        varies = deviation > 1e-6 * np.maximum(largest, 1e-3)
        self.mean.assign(mean)
        self.inverse_deviation.assign(np.where(varies, 1 / np.where(varies, deviation, 1), 0))

    def size(self):
        """Root mean square of a value, as measured: float []."""
        deviation = tf.math.divide_no_nan(1.0, self.inverse_deviation)
        return tf.sqrt(tf.reduce_mean(self.mean**2 + deviation**2))

    def call(self, inputs):
        return tf.clip_by_value((inputs - self.mean) * self.inverse_deviation, -STANDARDISED_LIMIT, STANDARDISED_LIMIT)


class CLSTransformer(tf.keras.layers.Layer):
    """Transformer blocks over a CLS token and the tokens of the content (Devlin et al., BERT, 2019).

    The CLS token is what is known without attention (statistics, a bag of words). The blocks are residual and start
    small, so that it passes through from the first step on: with a few hundred items that matters.
    """

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.blocks = transformer_blocks(config.layers, config)

    def call(self, cls, tokens, mask, training=None):
        """The output at the CLS token: float [B, W].

        cls: float [B, W].
        tokens: float [B, P, W].
        mask: bool [B, P], False where there is no token.
        """
        return self.refine(cls, tokens, mask, training=training)[:, 0]

    def refine(self, cls, tokens, mask, training=None):
        """The outputs at every token, the CLS token first: float [B, 1 + P, W]; arguments as in `call`."""
        tokens = tf.concat([cls[:, None], tokens], 1)  # [B, 1 + P, W]
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
    """Embeddings of a vocabulary, started near zero: a word that no training item has says next to nothing."""
    return tf.keras.layers.Embedding(size, config.width, embeddings_initializer=near_zero())


def near_zero() -> tf.keras.initializers.Initializer:
    """An initializer of small normal values."""
    return tf.keras.initializers.RandomNormal(stddev=0.01)


def bag(vectors, mask):
    """Pools an item's vectors: their sum over the root of their number, 0 where there are none.

    vectors: float [B, P, W].
    mask: bool [B, P], False where there is no vector.
    Returns float [B, W].
    """
    mask = tf.cast(mask, vectors.dtype)[..., None]
    return tf.reduce_sum(vectors * mask, 1) / tf.sqrt(tf.maximum(tf.reduce_sum(mask, 1), 1.0))


def keep_some(tokens, mask, share: float, training):
    """Patch dropout: in training a random `share` of the tokens, in any order, else all (Koutini et al., PaSST, 2022).

    tokens: float [B, P, ...], P static.
    mask: bool [B, P].
    Returns the kept tokens and their mask.
    """
    num_tokens = tokens.shape[1]
    kept = max(int(np.ceil(share * num_tokens)), 1)
    if not training or kept == num_tokens:
        return tokens, mask
    noise = tf.random.uniform(tf.shape(mask)) + tf.cast(mask, tf.float32)  # tokens that are there come first
    chosen = tf.math.top_k(noise, kept).indices
    return tf.gather(tokens, chosen, batch_dims=1), tf.gather(mask, chosen, batch_dims=1)


def masked_mean(values, mask, axis):
    """Mean of values over axes where mask (float, broadcastable) is 1; 0 where it is 0 throughout."""
    weights = tf.broadcast_to(mask, tf.shape(values))
    return tf.reduce_sum(values * weights, axis) / tf.maximum(tf.reduce_sum(weights, axis), 1.0)
