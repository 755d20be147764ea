"""What a modality is to the item tower: the features it reads, what is derived from them, and its columns of the linear
map.

B items, W width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.keras import tf


class ContentEncoder(tf.keras.layers.Layer):
    """Encodes the features of one modality as a token, float [B, W]."""

    inputs: tuple[str, ...] = ()  # names of the features that it reads
    statistics: str | None = None  # name of the feature that `measure` gives, which it also reads

    def measure(self, features: Mapping[str, Any]):
        """The statistics of a batch: float [B, E], from `inputs` alone; for encoders with `statistics`."""
        raise NotImplementedError(f"{self.name} has no statistics")

    def fit(self, features: Mapping[str, np.ndarray]) -> None:
        """Measures the scale of the features on items that have the modality; nothing to measure here.

        features: as `ItemTable.view` gives them.
        """

    def rates(self, learning_rate: float) -> list[tuple[tf.Variable, float]]:
        """The variables that learn, each with its learning rate."""
        return [(variable, learning_rate) for variable in self.trainable_weights]


@dataclass(frozen=True)
class Block:
    """Columns of the linear map that are standardised, weighted and left out together."""

    name: str
    label: str  # as explanations name it
    feature: str  # float [B, E], or ids int [B] or [B, T] of a vocabulary
    vocabulary_size: int = 0  # of the ids; 0 = the feature is numbers
    flag: str | None = None  # feature that is 1 where an item has the block; None = every item has it
    is_direction: bool = False  # only the direction from the mean of all directions counts, as for a cosine


@dataclass(frozen=True)
class Modality:
    """One kind of content of an item: text, tags, audio, video, an embedding, wordpieces, or the attributes."""

    name: str
    encoder: ContentEncoder
    flag: str | None  # feature that is 1 where an item has the modality; None = every item has it
    blocks: tuple[Block, ...] = ()  # what the linear map reads of it
    pretrained: ContentEncoder | None = None  # frozen, as it was pretrained on the catalogue
    pretrained_block: Block | None = None  # what the linear map reads of that
    holds_tags: bool = False  # the item's own tags are in it, which the tag head must not see

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features that the encoder reads, the statistics among them."""
        return (*self.encoder.inputs, *([self.encoder.statistics] if self.encoder.statistics else []))

    @property
    def derived(self) -> tuple[str, ...]:
        """Names of the features that `complete` computes from others."""
        pretrained = [self.pretrained_block.feature] if self.pretrained_block else []
        return (*([self.encoder.statistics] if self.encoder.statistics else []), *pretrained)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all features of the modality in a prepared table."""
        pretrained = [self.pretrained_block.feature] if self.pretrained_block else []
        return (*self.columns, *([self.flag] if self.flag else []), *pretrained)

    @property
    def linear_blocks(self) -> tuple[Block, ...]:
        """All blocks of the linear map that tell of the modality."""
        return (*self.blocks, *([self.pretrained_block] if self.pretrained_block else []))

    def complete(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features with those that are derived from them, where they do not hold them already."""
        if self.encoder.statistics and self.encoder.statistics not in features:
            features = {**features, self.encoder.statistics: self.encoder.measure(features)}
        if self.pretrained and self.pretrained_block and self.pretrained_block.feature not in features:
            features = {**features, self.pretrained_block.feature: self.pretrained(features, training=False)}
        return features

    def is_present(self, features: Mapping[str, Any], batch_size):
        """Which items of a batch have the modality: bool [B]."""
        return tf.ones([batch_size], tf.bool) if self.flag is None else features[self.flag] > 0
