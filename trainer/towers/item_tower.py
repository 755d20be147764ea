"""The item tower: features of an item -> unit vector.

B items, M modalities, W width of a token, E columns of the linear map, D embedding_dim, P submodels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from components.contract import AUDIO_FEATURES, BEHAVIOUR, CONTENT, VIDEO_FEATURES, VIEWS
from components.pretrained_config import PretrainedConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.data import ItemTable
from trainer.encoders.factory import TAGS, content_modalities
from trainer.encoders.fusion import Fusion
from trainer.encoders.linear import LinearContent
from trainer.encoders.tag_head import TagHead, frequent_tags
from trainer.encoders.weights import initialise
from trainer.keras import tf
from trainer.towers.ensemble import unit_submodels, with_scale

_MEDIA = {feature.name: feature for feature in AUDIO_FEATURES + VIDEO_FEATURES if feature.dtype == "uint8"}
_ENCODE_BATCH = 64  # items with sound or pictures
_ENCODE_BATCH_WITHOUT_MEDIA = 1024


class ItemTower(tf.keras.layers.Layer):
    """A hybrid of id embeddings and content: vector = unit(c x id embedding + (1 - c) x content), c = n / (n +
    shrinkage).

    n is the number of the item's training interactions: without any, its content places it; the more there are, the
    more they decide. Id embeddings are learned from interactions, the content is fitted to them (`trainer.content.fit`;
    docs/decisions/0011-content-from-behaviour.md).
    """

    def __init__(
        self,
        table: ItemTable,
        warm_ids: Sequence[bytes],
        interaction_counts: Sequence[int],
        config: RetrievalConfig,
        encoder_configs: Sequence[PretrainedConfig] = (),
        pretrained: Sequence[str] = (),
        **kwargs,
    ):
        """table: its vocabularies and modalities decide what is built.
        warm_ids: items with training interactions, which get an id embedding.
        interaction_counts: how many interactions each of them has.
        encoder_configs: of the pretrained encoders, as `content_modalities` takes them.
        pretrained: modalities to whose encoders `prepare` gives weights that were pretrained on the catalogue.
        """
        super().__init__(**kwargs)
        self.config = config
        self.num_submodels = config.num_submodels
        self._dim = dim = config.embedding_dim - config.item_scale * self.num_submodels  # of a direction
        self.modalities = content_modalities(table, config, encoder_configs, pretrained)
        self.was_seen = np.ones(len(self.modalities), bool)  # which of them any item has that scales are measured on
        self.encoders = {modality.name: modality.encoder for modality in self.modalities}
        self.pretrained = {modality.name: modality.pretrained for modality in self.modalities if modality.pretrained}
        self.uses_encoders = True  # False: the content is the linear map's part alone, as where they are not trained
        self.tag_head: TagHead | None = None  # where enough items have tags, and something else besides
        if self.encoders:
            blocks = [block for modality in self.modalities for block in modality.blocks]
            blocks += [modality.pretrained_block for modality in self.modalities if modality.pretrained_block]
            self.linear = LinearContent(blocks, dim)
            self.fusion = Fusion(len(self.encoders), config.modality_dropout, config.encoder)
            self.dropout = tf.keras.layers.Dropout(config.dropout)
            self.project = tf.keras.layers.Dense(dim, use_bias=False, kernel_initializer="zeros")
        self.row_of_id = tf.keras.layers.StringLookup(
            vocabulary=[item_id.decode() for item_id in warm_ids] or ["-"], num_oov_indices=1, oov_token=None
        )  # 0 = not a warm item; no token, since an id may be any
        self.id_embedding = tf.keras.layers.Embedding(
            len(warm_ids) + 1, dim, embeddings_initializer=tf.keras.initializers.RandomNormal(stddev=0.05)
        )
        self.interaction_counts = tf.constant([0.0, *interaction_counts], tf.float32)
        self.shrinkage = self.add_weight("shrinkage", [], initializer="zeros", trainable=False)
        if config.item_scale:
            self.scale_logits = self.add_weight(
                "scale_logits", [len(warm_ids) + 1, self.num_submodels], initializer="zeros"
            )  # row 0: all cold items

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features that `call` reads from a table made ready by `prepare`."""
        return (*(name for modality in self.modalities for name in modality.inputs), "id_row")

    @property
    def content_layers(self) -> list[tf.keras.layers.Layer]:
        """The layers of the content path beside the linear map."""
        heads = [self.tag_head] if self.tag_head is not None else []
        return [*self.encoders.values(), self.fusion, self.project, *heads] if self.encoders else []

    @property
    def content_rates(self) -> list[tuple[tf.Variable, float]]:
        """The variables of those layers that learn, each with its learning rate."""
        rate = self.config.content_learning_rate
        rates = [pair for encoder in self.encoders.values() for pair in encoder.rates(rate)]
        others = self.content_layers[len(self.encoders) :]
        return rates + [(weight, rate) for layer in others for weight in layer.trainable_weights]

    def call(self, features, training=None, ids_only: bool = False):
        """Unit vectors of a batch of items: float [B, D].

        features: the contract's (uint8 arrays also as one string an item), or those of a prepared table.
        ids_only: by id embeddings alone; items without one are then zero.
        """
        row = self.id_rows(features)
        behaviour = self._behaviour(row)
        if not self.encoders or ids_only:
            return self._scaled(row, behaviour)
        content, _ = self.content(features, training=training)
        return self._scaled(row, self._mixed(row, behaviour, content))

    def views(self, features) -> dict[str, Any]:
        """The vectors of `call` as `vector`, and what they are mixed of: `content`, which no interaction of the item
        enters but in how the content was fitted, and `behaviour`, its id embedding: float [B, D] each.

        Both have unit norm, and 0 in dimensions of scales; the id embedding of a cold item is 0, and so is the content
        where the catalogue has none.
        """
        row = self.id_rows(features)
        behaviour = self._behaviour(row)
        content, direction = tf.zeros_like(behaviour), behaviour
        if self.encoders:
            content, _ = self.content(features, training=False)
            direction = self._mixed(row, behaviour, content)
        scales = [[0, 0], [0, self.num_submodels * self.config.item_scale]]
        alone = {CONTENT: tf.pad(content, scales), BEHAVIOUR: tf.pad(behaviour, scales)}
        return {"vector": self._scaled(row, direction), **alone}

    def _behaviour(self, row):
        """Unit id embeddings of rows, zero for cold items: float [B, D without the scales]."""
        is_warm = tf.cast(row > 0, tf.float32)[:, None]
        return unit_submodels(self.id_embedding(row), self.num_submodels) * is_warm

    def _mixed(self, row, behaviour, content):
        """Both as their weights say, of unit norm: float [B, D without the scales]."""
        id_weight = self.id_weight(row)[:, None]
        return unit_submodels(id_weight * behaviour + (1 - id_weight) * content, self.num_submodels)

    def _scaled(self, row, direction):
        """Directions with the items' scales, where they have some: float [B, D]."""
        if not self.config.item_scale:
            return direction
        return with_scale(direction, tf.sigmoid(tf.gather(self.scale_logits, row)))

    def id_rows(self, features):
        """Rows of the id embedding, 0 for a cold item: int [B]."""
        return features["id_row"] if "id_row" in features else self.row_of_id(features["item_id"])

    def id_weight(self, row):
        """How much the id embedding counts beside the content, from 0 to 1: float [B]."""
        counts = tf.gather(self.interaction_counts, row)
        return tf.math.divide_no_nan(counts, counts + self.shrinkage)

    def content(self, features, training=None):
        """The unit content vectors, float [B, D], and the gate of each modality, float [B, M]."""
        raw, gates = self.raw_content(features, training=training)
        return unit_submodels(raw, self.num_submodels), gates

    def raw_content(self, features, training=None):
        """As `content`, before the vectors are scaled to unit length: the linear map's part plus the encoders'."""
        if not self.uses_encoders:
            vectors = self.linear(self.complete(features))
            return vectors, tf.zeros([tf.shape(vectors)[0], len(self.encoders)])
        return self.fused(*self.tokens_of(features, training=training), training=training)

    def tokens_of(self, features, training=None) -> tuple[dict[str, Any], Any, Any]:
        """The completed features, the tokens, float [B, M, W], and which modalities are there, bool [B, M]: of those
        only that training has seen, since no other's token was fitted to anything.
        """
        features = self.complete(features)
        tokens = tf.stack([encoder(features, training=training) for encoder in self.encoders.values()], 1)
        size = tf.shape(tokens)[0]
        there = tf.stack([one.is_present(features, size) for one in self.modalities], 1)
        return features, tokens, there & tf.constant(self.was_seen)

    def fused(self, features, tokens, there, training=None):
        """The raw content vectors and gates of what `tokens_of` gives."""
        pooled, gates = self.fusion(tokens, there, training=training)
        return self.linear(features) + self.project(self.dropout(pooled, training=training)), gates

    def tag_logits(self, features, tokens, there, training=None):
        """Logits of the tag head's tags, float [B, tags], of what `tokens_of` gives; the item's own tags are hidden."""
        assert self.tag_head is not None
        shown = there & tf.constant([not modality.holds_tags for modality in self.modalities])
        pooled, _ = self.fusion(tokens, shown, training=training)
        return self.tag_head(self.without_tags(self.linear.design(features)), self.dropout(pooled, training=training))

    def without_tags(self, columns: Sequence[Any]) -> list[Any]:
        """Of something for each block of the linear map, as columns float [B, E_m], those of blocks that hold nothing
        of the item's own tags.
        """
        hidden = {block.name for one in self.modalities if one.holds_tags for block in one.linear_blocks}
        return [found for block, found in zip(self.linear.blocks, columns) if block.name not in hidden]

    def tags(self, features):
        """The probability of each of the tag head's tags: float [B, tags]."""
        return self._tags(features, self.uses_encoders)

    @tf.function(reduce_retracing=True)
    def _tags(self, features, uses_encoders: bool):
        assert self.tag_head is not None
        if not uses_encoders:
            return tf.sigmoid(self.tag_head(self.without_tags(self.linear.design(self.complete(features)))))
        return tf.sigmoid(self.tag_logits(*self.tokens_of(features)))

    def complete(self, features) -> dict[str, Any]:
        """The features with those that are derived from them: media statistics and pretrained encoders' tokens."""
        features = {name: _pixels(name, value) for name, value in features.items()}
        for modality in self.modalities:
            features = modality.complete(features)
        return features

    @property
    def measured(self) -> list[str]:
        """The features that `prepare` derives from an item's content alone, whoever took it."""
        statistics = [modality.encoder.statistics for modality in self.modalities if modality.encoder.statistics]
        tokens = [
            modality.pretrained_block.feature
            for modality in self.modalities
            if modality.pretrained and modality.pretrained_block
        ]
        return statistics + tokens

    def prepare(
        self, table: ItemTable, fit_on: np.ndarray, weights: Mapping[str, Sequence[np.ndarray]] | None = None
    ) -> None:
        """Adds the derived features and `id_row` to the table, builds every layer, and measures scales.

        Those of the `measured` features that the table has already stay.
        fit_on: int [R], rows of the items on which scales are measured.
        weights: of the pretrained encoders, as `trainer.encoders.weights.read_weights` gives them.
        """
        table.arrays["id_row"] = self.row_of_id(tf.constant(table.item_ids)).numpy()
        for place, modality in enumerate(self.modalities):
            encoder = modality.encoder
            if encoder.statistics and encoder.statistics not in table.arrays:
                table.arrays[encoder.statistics] = _in_batches(encoder.measure, table, encoder.inputs)
            having = fit_on if modality.flag is None else fit_on[table.arrays[modality.flag][fit_on] > 0]
            encoder.fit(table.view(having, modality.columns))
            self.was_seen[place] = len(having) > 0
        self._load_pretrained(table, fit_on, weights or {})
        if self.encoders:
            self.linear.fit_scale(table.take(fit_on, self.linear.inputs))
            seen = self.tokens_of(_tensors(table.take(fit_on[:1], self.inputs)))
            self.fused(*seen)  # builds every layer
            tag_ids = frequent_tags(table.arrays["tag_ids"][fit_on]) if TAGS in self.encoders else np.zeros(0, np.int64)
            width = sum(self.linear.columns_of(block.name) + 1 for block in self.without_tags(self.linear.blocks))
            if len(tag_ids) and width:
                self.tag_head = TagHead(tag_ids, width, name="tag_head")
                self.tag_logits(*seen)

    def _load_pretrained(
        self, table: ItemTable, fit_on: np.ndarray, weights: Mapping[str, Sequence[np.ndarray]]
    ) -> None:
        """Sets encoders to their pretrained weights, and adds the tokens of their frozen copies to the table."""
        for modality in self.modalities:
            if not (modality.pretrained and modality.pretrained_block):
                continue
            is_same = modality.pretrained.name == modality.name  # else a layer of another kind
            for layer in (modality.pretrained, modality.encoder) if is_same else (modality.pretrained,):
                layer(_tensors(table.take(fit_on[:1], modality.columns)))  # builds it
                initialise(layer, weights[modality.pretrained.name])
            modality.pretrained.trainable = False  # what the linear map reads stays as it was
            if modality.pretrained_block.feature not in table.arrays:
                tokens = _in_batches(modality.pretrained, table, modality.columns)
                table.arrays[modality.pretrained_block.feature] = tokens

    def start_at(self, vectors: np.ndarray) -> None:
        """Sets the id embeddings of the warm items. vectors: float32 [warm items, D without the scales], unit norm."""
        self.id_embedding.build(None)
        self.id_embedding.embeddings.assign(np.concatenate([np.zeros_like(vectors[:1]), vectors]))

    def rotate_content(self, rotation: np.ndarray) -> None:
        """Multiplies the content vectors, before they are of unit length, by a float [D, D] without the scales."""
        if self.encoders:
            for kernel in (self.linear.kernel, *self.linear.imputed.values(), self.project.kernel):
                kernel.assign(tf.matmul(kernel, tf.constant(rotation, tf.float32)))

    def id_embeddings(self, table: ItemTable, rows: np.ndarray) -> np.ndarray:
        """Unit id embeddings of warm items, without their scale: float32 [R, D]. rows: int [R], of the table."""
        embeddings = self.id_embedding(tf.constant(table.arrays["id_row"][rows]))
        return unit_submodels(embeddings, self.num_submodels).numpy()

    def encode_ids(self, table: ItemTable) -> np.ndarray:
        """Unit vectors of all items by id embeddings alone, zero for cold items: float32 [items of the table, D]."""
        return self({"id_row": tf.constant(table.arrays["id_row"])}, training=False, ids_only=True).numpy()

    def encode(self, table: ItemTable) -> np.ndarray:
        """Unit vectors of all items of a prepared table: float32 [items of the table, D]."""
        encode = partial(self._encode, uses_encoders=self.uses_encoders)
        return _in_batches(encode, table, self.inputs)

    def encode_views(self, table: ItemTable) -> dict[str, np.ndarray]:
        """What `views` gives of all items of a prepared table: float32 [items of the table, D] each."""
        encode = partial(self._encode_views, uses_encoders=self.uses_encoders)
        stacked = _in_batches(encode, table, self.inputs)  # [items, views, D]
        return dict(zip(("vector", *VIEWS), np.moveaxis(stacked, 1, 0)))

    def mixed(self, table: ItemTable, views: Mapping[str, np.ndarray]) -> np.ndarray:
        """What `encode` gives, from what `encode_views` gave, under the shrinkage that is set now."""
        row = tf.constant(table.arrays["id_row"])
        behaviour, content = (tf.constant(views[name][:, : self._dim]) for name in (BEHAVIOUR, CONTENT))
        direction = self._mixed(row, behaviour, content) if self.encoders else behaviour
        return self._scaled(row, direction).numpy()

    @tf.function(reduce_retracing=True)
    def _encode(self, features, uses_encoders: bool):  # an argument, so that a change is a new trace
        return self(features, training=False)

    @tf.function(reduce_retracing=True)
    def _encode_views(self, features, uses_encoders: bool):
        views = self.views(features)
        return tf.stack([views[name] for name in ("vector", *VIEWS)], 1)


def _in_batches(function: Callable[..., Any], table: ItemTable, columns: Sequence[str]) -> np.ndarray:
    """What a function gives of all items of a table, of so many at a time that their columns fit in memory."""
    size = _ENCODE_BATCH if set(columns) & set(_MEDIA) else _ENCODE_BATCH_WITHOUT_MEDIA
    rows = [np.arange(start, min(start + size, len(table))) for start in range(0, len(table), size)]
    return np.concatenate([function(_tensors(table.take(part, columns))).numpy() for part in rows])


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def _pixels(name: str, value):
    """Media that came as bytes as the array that they stand for."""
    if name not in _MEDIA or value.dtype != tf.string:
        return value
    shape = _MEDIA[name].shape
    return tf.reshape(tf.io.decode_raw(value, tf.uint8, fixed_length=int(np.prod(shape))), [-1, *shape])
