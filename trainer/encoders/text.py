"""The encoders of words and of tags: ids -> one token.

B items, T words, G tags, W width of a token.
"""

from __future__ import annotations

from components.contract import TEXT_TOKENS
from trainer.config.encoder import EncoderConfig
from trainer.encoders.blocks import CLSTransformer, bag, embedding, near_zero
from trainer.encoders.fusion import hide_some
from trainer.encoders.modality import ContentEncoder
from trainer.keras_nlp import keras_nlp, tf


class TextEncoder(ContentEncoder):
    """A Transformer over an item's words, with their bag as CLS token: `text_tokens` int64 [B, T], 0 = no word -> float
    [B, W].

    `text_shift` float [B, T, W], where the features hold it, is added to the word embeddings
    (`trainer.content.adversarial`).
    """

    inputs = ("text_tokens",)

    def __init__(self, vocabulary_size: int, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.vectors = embedding(vocabulary_size, config)
        self.positions = keras_nlp.layers.PositionEmbedding(TEXT_TOKENS, initializer=near_zero())
        self.project = tf.keras.layers.Dense(config.width, use_bias=False)
        self.transformer = CLSTransformer(config)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.has_blocks = config.layers > 0
        self.drop_words = config.drop_words

    def call(self, features, training=None):
        words = trimmed(features["text_tokens"])
        mask = words > 0
        if training and self.drop_words > 0:
            mask = hide_some(mask, self.drop_words)
        vectors = self.vectors(words)  # [B, T, W]
        if "text_shift" in features:
            vectors += features["text_shift"][:, : tf.shape(words)[1]]
        return self.read(vectors, mask, training=training)[:, 0]

    def read(self, vectors, mask, training=None):
        """The tokens of word embeddings, that of the item first: float [B, 1 + T, W], or [B, 1, W] without Transformer
        blocks.

        vectors: float [B, T, W].
        mask: bool [B, T], False where there is no word.
        """
        leading = self.dropout(self.project(bag(vectors, mask)), training=training)
        if not self.has_blocks:
            return leading[:, None]
        return self.transformer.refine(leading, vectors + self.positions(vectors), mask, training=training)


def trimmed(words):
    """Cuts the columns that are padding for all items, but for one: int [B, T] -> int [B, longest]."""
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(words > 0, tf.int32), 1))
    return words[:, : tf.maximum(longest, 1)]


class TagEncoder(ContentEncoder):
    """A bag of an item's tags: `tag_ids` int64 [B, G], 0 = no tag -> float [B, W].

    `tags_shift` float [B, G, W], where the features hold it, is added to the tag embeddings.
    """

    inputs = ("tag_ids",)

    def __init__(self, vocabulary_size: int, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.vectors = embedding(vocabulary_size, config)
        self.project = tf.keras.layers.Dense(config.width, use_bias=False)
        self.dropout = tf.keras.layers.Dropout(config.dropout)

    def call(self, features, training=None):
        tags = features["tag_ids"]
        vectors = self.vectors(tags) + features.get("tags_shift", 0.0)
        return self.dropout(self.project(bag(vectors, tags > 0)), training=training)
