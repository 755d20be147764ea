"""Fine-tuning of a pretrained text encoder inside the item tower.

B items, T wordpieces, W width of a token of fusion.
"""

from __future__ import annotations

from components.pretrained_config import PretrainedConfig, TuneConfig
from trainer.config.encoder import EncoderConfig
from trainer.encoders.modality import ContentEncoder
from trainer.encoders.pretrained import pooled, sentence_encoder
from trainer.keras_nlp import keras_nlp, tf


class TunedTextEncoder(ContentEncoder):
    """A sentence encoder, its top layers tuned: `pieces_<name>` int64 [B, T], -1 where padded -> float [B, W]."""

    def __init__(self, pretrained: PretrainedConfig, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        assert pretrained.tune is not None
        self.column = f"pieces_{pretrained.name}"
        self.inputs = (self.column,)
        self.tune = pretrained.tune
        encoder = sentence_encoder(pretrained.path)  # its tokeniser stays behind: what is saved has core ops only
        self.pooling = encoder.pooling
        self.states = tf.keras.Model(encoder.backbone.input, encoder.backbone.output["sequence_output"])
        self.backbone_rates = layer_rates(encoder.backbone, self.tune)
        self.project = tf.keras.layers.Dense(config.width)
        self.dropout = tf.keras.layers.Dropout(config.dropout)

    def call(self, features, training=None):
        pieces = tf.cast(features[self.column], tf.int32)
        there = tf.cast(pieces >= 0, tf.int32)
        longest = tf.maximum(tf.reduce_max(tf.reduce_sum(there, 1)), 1)  # pieces stand first: beyond, all is padding
        pieces, there = pieces[:, :longest], there[:, :longest]
        tokens = {"token_ids": tf.maximum(pieces, 0), "segment_ids": tf.zeros_like(pieces), "padding_mask": there}
        vectors = pooled(self.states(tokens, training=bool(training) and self.tune.layers > 0), there, self.pooling)
        return self.project(self.dropout(vectors, training=training))

    def rates(self, learning_rate: float) -> list[tuple[tf.Variable, float]]:
        """The variables that learn: the projection with `learning_rate`, the backbone's top by `layer_rates`."""
        own = [(variable, learning_rate) for variable in self.project.trainable_weights]
        return own + list(self.backbone_rates)


def layer_rates(backbone: keras_nlp.models.BertBackbone, tune: TuneConfig) -> list[tuple[tf.Variable, float]]:
    """Learning rates of the top `tune.layers` blocks' variables, falling by `layer_decay` from block to block
    downwards.

    Where more layers are to learn than there are blocks, the token embeddings do too, slowest of all. The rest is
    frozen.
    Source: discriminative fine-tuning and unfreezing from the top (Howard & Ruder, ULMFiT, 2018).
    """
    norm = backbone.embeddings_layer_norm
    parts = [[norm, backbone.segment_embedding, backbone.position_embedding, backbone.token_embedding]]
    parts += [[block] for block in backbone.transformer_layers]
    rates, rate = [], tune.learning_rate
    for part in parts[::-1][: tune.layers]:
        rates += [(variable, rate) for layer in part for variable in layer.trainable_weights]
        rate *= tune.layer_decay
    return rates


class LayerwiseAdamW:
    """AdamW (Loshchilov & Hutter, 2019) with a learning rate of its own for each variable."""

    def __init__(self, rates: list[tuple[tf.Variable, float]], weight_decay: float):
        self.variables = [variable for variable, _ in rates]
        self._groups = []
        for rate in sorted({rate for _, rate in rates}):
            places = [place for place, (_, own) in enumerate(rates) if own == rate]
            optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=weight_decay)
            optimizer.build([self.variables[place] for place in places])
            self._groups.append((optimizer, places))

    def apply_gradients(self, gradients: list[tf.Tensor]) -> None:
        """Takes one step; gradients in the order of `variables`."""
        for optimizer, places in self._groups:
            optimizer.apply_gradients([(gradients[place], self.variables[place]) for place in places])
