"""Modality tokens -> one content vector. B items, M modalities, W width."""

from __future__ import annotations

from trainer.config.retrieval import EncoderConfig
from trainer.encoders.blocks import transformer_blocks
from trainer.keras import tf


class Fusion(tf.keras.layers.Layer):
    """A Transformer over the modality tokens, then a gated sum: what is missing has no weight, and the gates say what was trusted.

    tokens: [B, M, W]; present: bool [B, M] -> (content [B, W], gates [B, M], which sum to 1 where anything is present, else 0).
    In training a modality is hidden at random, never all that an item has.
    """

    def __init__(self, num_modalities: int, dropout: float, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.hide = dropout
        self.names = self.add_weight("names", [num_modalities, config.width], initializer="zeros")
        self.trust = self.add_weight("trust", [num_modalities], initializer="zeros")
        self.blocks = transformer_blocks(config.fusion_layers, config)
        self.normalise = tf.keras.layers.LayerNormalization()
        self.doubt = tf.keras.layers.Dense(1, kernel_initializer="zeros", use_bias=False)

    def call(self, tokens, present, training=None):
        if training and self.hide > 0:
            present = hide_some(present, self.hide)
        weight = tf.cast(present, tokens.dtype)[..., None]
        tokens = (tokens + self.names) * weight  # what stands in the place of a missing modality goes no further
        for block in self.blocks:
            tokens = block(tokens, padding_mask=present, training=training)
        logits = self.trust + self.doubt(self.normalise(tokens))[..., 0]
        gates = tf.nn.softmax(tf.where(present, logits, -1e9), -1) * weight[..., 0]
        return tf.reduce_sum(tokens * gates[..., None], 1), gates


def hide_some(present, share: float):
    """A random `share` of what is present becomes absent; an item that would lose everything keeps everything. bool [B, M]."""
    kept = present & (tf.random.uniform(tf.shape(present)) >= share)
    return tf.where(tf.reduce_any(kept, -1, keepdims=True), kept, present)
