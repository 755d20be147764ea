"""The encoders of a catalogue's columns: embeddings, categories and numbers.

B items, W width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainer.config.encoder import EncoderConfig
from trainer.encoders.blocks import Standardise, embedding
from trainer.encoders.modality import ContentEncoder
from trainer.keras import tf


class EmbeddingEncoder(ContentEncoder):
    """A linear map of a catalogue's embedding, standardised: `embedding_<name>` float [B, E] -> float [B, W]."""

    def __init__(self, column: str, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.inputs = (column,)
        self.column = column
        self.standardise = Standardise()
        self.project = tf.keras.layers.Dense(config.width)
        self.dropout = tf.keras.layers.Dropout(config.dropout)

    def call(self, features, training=None):
        return self.project(self.dropout(self.standardise(features[self.column]), training=training))

    def fit(self, features: Mapping[str, np.ndarray]) -> None:
        """Measures the scale of the dimensions on items that have the embedding."""
        self.standardise.fit(features[self.column])


class AttributeEncoder(ContentEncoder):
    """The sum of the categories' embeddings and a linear map of the numbers: float [B, W].

    It reads `<name>_id` int64 [B], 0 = absent, and `numeric` with `numeric_present` float [B, C].
    """

    def __init__(self, categories: dict[str, int], has_numbers: bool, config: EncoderConfig, **kwargs):
        """categories: feature name -> size of its vocabulary."""
        super().__init__(**kwargs)
        self.inputs = (*categories, *(("numeric", "numeric_present") if has_numbers else ()))
        self.embeddings = {name: embedding(size, config) for name, size in categories.items()}
        self.project = tf.keras.layers.Dense(config.width, use_bias=False) if has_numbers else None
        self.dropout = tf.keras.layers.Dropout(config.dropout)

    def call(self, features, training=None):
        parts = [
            vectors(features[name]) * tf.cast(features[name] > 0, tf.float32)[:, None]
            for name, vectors in self.embeddings.items()
        ]
        if self.project is not None:
            present = features["numeric_present"]
            numbers = tf.clip_by_value(features["numeric"], -4.0, 4.0) * present
            parts.append(self.project(tf.concat([numbers, present], -1)))
        return self.dropout(tf.add_n(parts), training=training)
