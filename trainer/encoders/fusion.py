"""Fusion of the modalities' tokens into one content vector.

B items, M modalities, W width of a token.
"""

from __future__ import annotations

from trainer.config.encoder import EncoderConfig
from trainer.encoders.blocks import transformer_blocks
from trainer.keras import tf


class Fusion(tf.keras.layers.Layer):
    """A Transformer over the modalities' tokens, then their gated sum, in which a missing modality has no weight.

    In training a modality is hidden at random (modality dropout), never all that an item has.
    """

    def __init__(self, num_modalities: int, dropout: float, config: EncoderConfig, **kwargs):
        """dropout: chance that a modality is hidden from a training step."""
        super().__init__(**kwargs)
        self.modality_dropout = dropout
        self.names = self.add_weight("names", [num_modalities, config.width], initializer="zeros")
        self.bias = self.add_weight("bias", [num_modalities], initializer="zeros")
        self.blocks = transformer_blocks(config.fusion_layers, config)
        self.normalise = tf.keras.layers.LayerNormalization()
        self.gate = tf.keras.layers.Dense(1, kernel_initializer="zeros", use_bias=False)

    def call(self, tokens, present, training=None):
        """The content of a batch of items, float [B, W], and the gates, float [B, M], which sum to 1 where anything is
        present, else 0.

        tokens: float [B, M, W].
        present: bool [B, M].
        """
        if training and self.modality_dropout > 0:
            present = hide_some(present, self.modality_dropout)
        weight = tf.cast(present, tokens.dtype)[..., None]
        tokens = (tokens + self.names) * weight  # what stands in the place of a missing modality goes no further
        for block in self.blocks:
            tokens = block(tokens, padding_mask=present, training=training)
        logits = self.bias + self.gate(self.normalise(tokens))[..., 0]
        gates = tf.nn.softmax(tf.where(present, logits, -1e9), -1) * weight[..., 0]
        return tf.reduce_sum(tokens * gates[..., None], 1), gates


def hide_some(present, share: float):
    """Hides a random `share` of what is present, but never all of an item's: bool [B, M] -> bool [B, M]."""
    kept = present & (tf.random.uniform(tf.shape(present)) >= share)
    return tf.where(tf.reduce_any(kept, -1, keepdims=True), kept, present)
