"""Words and tags -> one token.

B items, T words, G tags, W width.
"""

from __future__ import annotations

import keras_nlp

from components.contract import TEXT_TOKENS
from trainer.config import EncoderConfig
from trainer.encoders.blocks import Summary, bag, embedding, near_zero
from trainer.keras import tf


class TextEncoder(tf.keras.layers.Layer):
    """A Transformer over the words of an item, led by their bag: `text_tokens` int64 [B, T], 0 = no word -> [B, W]."""

    inputs = ("text_tokens",)

    def __init__(self, vocabulary_size: int, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.words = embedding(vocabulary_size, config)
        self.positions = keras_nlp.layers.PositionEmbedding(TEXT_TOKENS, initializer=near_zero())
        self.project = tf.keras.layers.Dense(config.width, use_bias=False)
        self.summary = Summary(config)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.has_blocks = config.layers > 0

    def call(self, features, training=None):
        words = features["text_tokens"]
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(words > 0, tf.int32), 1))  # words stand first, so the rest is padding for all
        words = words[:, : tf.maximum(longest, 1)]
        mask = words > 0
        vectors = self.words(words)  # [B, T, W]
        leading = self.dropout(self.project(bag(vectors, mask)), training=training)
        if not self.has_blocks:
            return leading
        return self.summary(leading, vectors + self.positions(vectors), mask, training=training)


class TagEncoder(tf.keras.layers.Layer):
    """A bag of tags: `tag_ids` int64 [B, G], 0 = no tag -> [B, W]."""

    inputs = ("tag_ids",)

    def __init__(self, vocabulary_size: int, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.tags = embedding(vocabulary_size, config)
        self.project = tf.keras.layers.Dense(config.width, use_bias=False)
        self.dropout = tf.keras.layers.Dropout(config.dropout)

    def call(self, features, training=None):
        tags = features["tag_ids"]
        return self.dropout(self.project(bag(self.tags(tags), tags > 0)), training=training)
