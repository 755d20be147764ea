"""The item tower: features -> unit vector.

B items, M modalities, D embedding_dim, P models side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.pretrained_config import PretrainedConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.content.pretraining import initialise
from trainer.data import ItemTable
from trainer.encoders.factory import ATTRIBUTES, STATISTICS, attribute_encoder, encoder_of, linear_sources
from trainer.encoders.fusion import Fusion
from trainer.encoders.linear import LinearContent
from trainer.encoders.tag_head import TagHead, frequent_tags
from trainer.encoders.tuned import TunedTextEncoder
from trainer.keras import tf
from trainer.retrieval.ensemble import unit_parts, with_gain

_MEDIA = {feature.name: feature for feature in AUDIO_FEATURES + VIDEO_FEATURES if feature.dtype == "uint8"}
_ENCODE_BATCH = 64
TAGS = "tags"  # the modality that the tag head tells and does not see


class ItemTower(tf.keras.layers.Layer):
    """Content, and for items that training has seen a vector of their own beside it.

    vector = unit(c own + (1 - c) content), c = n / (n + shrinkage) for an item with n listeners: nobody has played it, so its content
    places it; the more have, the more their choice does. Own vectors are learned from behaviour, content from own vectors
    (`trainer.content.fit`; docs/decisions/0011-content-from-behaviour.md).
    """

    def __init__(
        self,
        table: ItemTable,
        warm_ids: Sequence[bytes],
        listeners: Sequence[int],
        config: RetrievalConfig,
        tuned: Sequence[PretrainedConfig] = (),
        pretrained: Sequence[str] = (),
        **kwargs,
    ):
        """table: its vocabularies and modalities decide what is built. warm_ids: items with training events, which get a vector; listeners:
        how many events each of them has. tuned: the encoders behind the modalities `pieces_<name>`. pretrained: modalities to whose
        encoders `prepare` will give weights learned on the catalogue.
        """
        super().__init__(**kwargs)
        self.config = config
        unknown = set(config.modalities) - set(table.modalities)
        if unknown:
            raise ValueError(
                f"modalities: no item has {', '.join(sorted(unknown))}; the catalogue has {', '.join(table.modalities)}"
            )
        self.modalities = tuple(name for name in table.modalities if not config.modalities or name in config.modalities)
        by_name = {f"pieces_{encoder.name}": encoder for encoder in tuned}
        self.encoders = {name: encoder_of(name, table, config, by_name) for name in self.modalities}
        attributes = attribute_encoder(table, config) if config.use_attributes else None
        if attributes is not None:
            self.encoders[ATTRIBUTES] = attributes
        self.tokens = tuple(self.encoders)
        self.pretrained = {name: encoder_of(name, table, config, {}) for name in pretrained if name in self.modalities}
        self.parts = config.side_by_side
        dim = config.embedding_dim - config.item_gain * self.parts
        self.tag_head: TagHead | None = None  # where enough items have tags, and something else besides
        if self.encoders:
            self.linear = LinearContent(*linear_sources(self.encoders, table, self.pretrained), dim)
            self.fusion = Fusion(len(self.encoders), config.modality_dropout, config.encoder)
            self.dropout = tf.keras.layers.Dropout(config.dropout)
            self.project = tf.keras.layers.Dense(dim, use_bias=False, kernel_initializer="zeros")
        self.row_of_id = tf.keras.layers.StringLookup(
            vocabulary=[item_id.decode() for item_id in warm_ids] or ["-"], num_oov_indices=1
        )  # 0 = not a warm item
        self.own = tf.keras.layers.Embedding(
            len(warm_ids) + 1, dim, embeddings_initializer=tf.keras.initializers.RandomNormal(stddev=0.05)
        )
        self.listeners = tf.constant([0.0, *listeners], tf.float32)
        self.shrinkage = self.add_weight("shrinkage", [], initializer="zeros", trainable=False)
        if config.item_gain:
            self.gain_logits = self.add_weight(
                "gain_logits", [len(warm_ids) + 1, self.parts], initializer="zeros"
            )  # row 0: all cold items

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features that `call` reads from a table made ready by `prepare`."""
        names = [name for encoder in self.encoders.values() for name in encoder.inputs]
        names += [f"has_{name}" for name in self.modalities]
        names += [f"{name}_statistics" for name in self.modalities if name in STATISTICS]
        names += [f"{name}_pretrained" for name in self.pretrained]
        return (*names, "own_row")

    @property
    def content_layers(self) -> list[tf.keras.layers.Layer]:
        """The content path beside the linear map."""
        heads = [self.tag_head] if self.tag_head is not None else []
        return [*self.encoders.values(), self.fusion, self.project, *heads] if self.encoders else []

    @property
    def content_rates(self) -> list[tuple[tf.Variable, float]]:
        """What training changes in the content path beside the linear map, and with which learning rate."""
        rate, rates = self.config.content_learning_rate, []
        for layer in self.content_layers:
            own = (
                layer.rates(rate)
                if isinstance(layer, TunedTextEncoder)
                else [(weight, rate) for weight in layer.trainable_weights]
            )
            rates += own
        return rates

    def call(self, features, training=None, own_only: bool = False):
        """features: the contract's, batched (uint8 arrays also as one string an item), or a prepared table's -> unit vectors [B, D].

        own_only: behaviour alone; items without a vector of their own are then zero.
        """
        row = features["own_row"] if "own_row" in features else self.row_of_id(features["item_id"])
        is_warm = tf.cast(row > 0, tf.float32)[:, None]
        direction = unit_parts(self.own(row), self.parts) * is_warm
        if self.encoders and not own_only:
            content, _ = self.content(features, training=training)
            listeners = tf.gather(self.listeners, row)
            trust = tf.math.divide_no_nan(listeners, listeners + self.shrinkage)[:, None]
            direction = unit_parts(trust * direction + (1 - trust) * content, self.parts)
        return (
            with_gain(direction, tf.sigmoid(tf.gather(self.gain_logits, row))) if self.config.item_gain else direction
        )

    def content(self, features, training=None):
        """The unit content vector [B, D], and what each token was trusted with [B, M]."""
        raw, gates = self.raw_content(features, training=training)
        return unit_parts(raw, self.parts), gates

    def raw_content(self, features, training=None):
        """The content vector [B, D] before it is made unit: the linear map and what the encoders add to it; and the gates [B, M]."""
        return self.fused(*self.tokens_of(features, training=training), training=training)

    def tokens_of(self, features, training=None) -> tuple[dict[str, Any], Any, Any]:
        """The complete features, the encoders' tokens [B, M, W], and which of them stand for something [B, M]."""
        features = self.complete(features)
        tokens = tf.stack([encoder(features, training=training) for encoder in self.encoders.values()], 1)
        there = [features[f"has_{name}"] > 0 for name in self.modalities]
        if ATTRIBUTES in self.encoders:
            there.append(tf.ones_like(there[0]) if there else tf.ones([tf.shape(tokens)[0]], tf.bool))
        return features, tokens, tf.stack(there, 1)

    def fused(self, features, tokens, there, training=None):
        """What `raw_content` gives, of what `tokens_of` gives."""
        pooled, gates = self.fusion(tokens, there, training=training)
        return self.linear(features) + self.project(self.dropout(pooled, training=training)), gates

    def tag_logits(self, features, tokens, there, training=None):
        """Logits of the tag head's tags [B, C], of what `tokens_of` gives; the item's own tags are hidden."""
        assert self.tag_head is not None
        hidden = there & tf.constant([name != TAGS for name in self.encoders])
        pooled, _ = self.fusion(tokens, hidden, training=training)
        return self.tag_head(self.without_tags(features), self.dropout(pooled, training=training))

    def without_tags(self, features) -> list[Any]:
        """The linear map's columns of everything but the item's own tags: [B, E_m] each."""
        return [
            block
            for name, block in zip(self.linear.blocks, self.linear.design(features))
            if name not in (TAGS, f"{TAGS}_pretrained")
        ]

    @tf.function(reduce_retracing=True)
    def tags(self, features):
        """How likely each of the tag head's tags is: [B, C]."""
        return tf.sigmoid(self.tag_logits(*self.tokens_of(features)))

    def complete(self, features) -> dict[str, Any]:
        """The features with what is measured on them: the statistics of media, and what pretrained encoders say of an item."""
        features = {name: _pixels(name, value) for name, value in features.items()}
        for name in self.modalities:
            if name in STATISTICS and f"{name}_statistics" not in features:
                features[f"{name}_statistics"] = STATISTICS[name](
                    *(features[column] for column in self.encoders[name].inputs)
                )
        for name, encoder in self.pretrained.items():
            if f"{name}_pretrained" not in features:
                features[f"{name}_pretrained"] = encoder(features, training=False)
        return features

    def prepare(
        self, table: ItemTable, fit_on: np.ndarray, weights: Mapping[str, Sequence[np.ndarray]] | None = None
    ) -> None:
        """Add the media statistics and `own_row` to the table, once, and measure every scale on the items `fit_on` int [R].

        weights: of the pretrained encoders, as `trainer.content.pretraining.read_weights` gives them.
        """
        table.arrays["own_row"] = self.row_of_id(tf.constant(table.item_ids)).numpy()
        for name in self.modalities:
            if name in STATISTICS:
                table.arrays[f"{name}_statistics"] = _in_batches(
                    partial(_measured, name), table, self.encoders[name].inputs
                )
            if hasattr(self.encoders[name], "fit"):
                names = [
                    column for column in self.inputs if column.startswith(name) and not column.endswith("_pretrained")
                ]
                having = fit_on[table.arrays[f"has_{name}"][fit_on] > 0]
                self.encoders[name].fit(table.take(having, names))
        for name, encoder in self.pretrained.items():
            columns = [*encoder.inputs, *([f"{name}_statistics"] if name in STATISTICS else [])]
            for layer in (encoder, self.encoders[name]):
                layer(_tensors(table.take(fit_on[:1], columns)))  # builds it
                initialise(layer, (weights or {})[name])
            encoder.trainable = False  # what the linear map reads of it stays as it was
            table.arrays[f"{name}_pretrained"] = _in_batches(encoder, table, columns)
        if self.encoders:
            self.linear.fit_scale(table.take(fit_on, self.inputs))
            seen = self.tokens_of(_tensors(table.take(fit_on[:1], self.inputs)))
            self.fused(*seen)  # builds every layer
            tag_ids = frequent_tags(table.arrays["tag_ids"][fit_on]) if TAGS in self.encoders else np.zeros(0, np.int64)
            if len(tag_ids) and len(self.encoders) > 1:
                width = sum(int(block.shape[1]) for block in self.without_tags(seen[0]))
                self.tag_head = TagHead(tag_ids, width, name="tag_head")
                self.tag_logits(*seen)

    def start_at(self, vectors: np.ndarray) -> None:
        """Place the warm items: unit vectors, float32 [number of warm ids, dimensions of the own vectors], in the order of the ids."""
        self.own.build(None)
        self.own.embeddings.assign(np.concatenate([np.zeros_like(vectors[:1]), vectors]))

    def own_vectors(self, table: ItemTable, rows: np.ndarray) -> np.ndarray:
        """Unit own vectors of warm items, without their gain: float32 [R, D]."""
        return unit_parts(self.own(tf.constant(table.arrays["own_row"][rows])), self.parts).numpy()

    def encode_own(self, table: ItemTable) -> np.ndarray:
        """`encode` by behaviour alone; items that nobody has played are zero."""
        return self({"own_row": tf.constant(table.arrays["own_row"])}, training=False, own_only=True).numpy()

    def encode(self, table: ItemTable) -> np.ndarray:
        """Unit vectors of all items of a prepared table: float32 [N, D]."""
        return _in_batches(self._encode, table, self.inputs)

    @tf.function(reduce_retracing=True)
    def _encode(self, features):
        return self(features, training=False)


def _measured(name: str, features):
    return STATISTICS[name](*features.values())


def _in_batches(function: Callable[..., Any], table: ItemTable, columns: Sequence[str]) -> np.ndarray:
    rows = [np.arange(start, min(start + _ENCODE_BATCH, len(table))) for start in range(0, len(table), _ENCODE_BATCH)]
    return np.concatenate([function(_tensors(table.take(part, columns))).numpy() for part in rows])


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def _pixels(name: str, value):
    if name not in _MEDIA or value.dtype != tf.string:
        return value
    shape = _MEDIA[name].shape
    return tf.reshape(tf.io.decode_raw(value, tf.uint8, fixed_length=int(np.prod(shape))), [-1, *shape])
