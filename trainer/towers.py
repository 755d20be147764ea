"""The two towers. Item: features -> unit vector. User: a history of unit item vectors -> unit vector.

B items or users, L interactions of a history, M modalities, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_nlp
import numpy as np

from components.config import EventRule
from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from trainer.config import RetrievalConfig
from trainer.data import UNKNOWN_EVENT, ItemTable
from trainer.encoders.audio import AudioEncoder, audio_statistics
from trainer.encoders.fusion import Fusion
from trainer.encoders.given import AttributeEncoder, EmbeddingEncoder
from trainer.encoders.linear import LinearContent
from trainer.encoders.text import TagEncoder, TextEncoder
from trainer.encoders.video import VideoEncoder, video_statistics
from trainer.keras import tf

ATTRIBUTES = "attributes"  # the token of categories and numbers, beside those of the modalities
STATISTICS: dict[str, Callable[..., Any]] = {"audio": audio_statistics, "video": video_statistics}
_MEDIA = {feature.name: feature for feature in AUDIO_FEATURES + VIDEO_FEATURES if feature.dtype == "uint8"}
_ENCODE_BATCH = 64


class ItemTower(tf.keras.layers.Layer):
    """Content, and for items that training has seen a vector of their own beside it.

    vector = unit(c own + (1 - c) content), c = n / (n + shrinkage) for an item with n listeners: nobody has played it, so its content
    places it; the more have, the more their choice does. Own vectors are learned from behaviour, content from own vectors
    (`trainer.content`; docs/decisions/0011-content-from-behaviour.md).
    """

    def __init__(self, table: ItemTable, warm_ids: Sequence[bytes], listeners: Sequence[int], config: RetrievalConfig, **kwargs):
        """table: its vocabularies and modalities decide what is built. warm_ids: items with training events, which get a vector; listeners:
        how many events each of them has.
        """
        super().__init__(**kwargs)
        self.config = config
        unknown = set(config.modalities) - set(table.modalities)
        if unknown:
            raise ValueError(f"modalities: no item has {', '.join(sorted(unknown))}; the catalogue has {', '.join(table.modalities)}")
        self.modalities = tuple(name for name in table.modalities if not config.modalities or name in config.modalities)
        self.encoders = {name: _encoder(name, table, config) for name in self.modalities}
        attributes = _attributes(table, config) if config.use_attributes else None
        if attributes is not None:
            self.encoders[ATTRIBUTES] = attributes
        self.tokens = tuple(self.encoders)
        dim = config.embedding_dim - config.item_gain
        if self.encoders:
            self.linear = LinearContent(*_linear_sources(self.encoders, table), dim)
            self.fusion = Fusion(len(self.encoders), config.modality_dropout, config.encoder)
            self.dropout = tf.keras.layers.Dropout(config.dropout)
            self.project = tf.keras.layers.Dense(dim, use_bias=False, kernel_initializer="zeros")
        self.row_of_id = tf.keras.layers.StringLookup(
            vocabulary=[item_id.decode() for item_id in warm_ids] or ["-"], num_oov_indices=1
        )  # 0 = not a warm item
        self.own = tf.keras.layers.Embedding(len(warm_ids) + 1, dim, embeddings_initializer=tf.keras.initializers.RandomNormal(stddev=0.05))
        self.listeners = tf.constant([0.0, *listeners], tf.float32)
        self.shrinkage = self.add_weight("shrinkage", [], initializer="zeros", trainable=False)
        if config.item_gain:
            self.gain_logits = self.add_weight("gain_logits", [len(warm_ids) + 1], initializer="zeros")  # row 0: all cold items

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features that `call` reads from a table made ready by `prepare`."""
        names = [name for encoder in self.encoders.values() for name in encoder.inputs]
        names += [f"has_{name}" for name in self.modalities]
        names += [f"{name}_statistics" for name in self.modalities if name in STATISTICS]
        return (*names, "own_row")

    @property
    def content_layers(self) -> list[tf.keras.layers.Layer]:
        """The content path beside the linear map."""
        return [*self.encoders.values(), self.fusion, self.project] if self.encoders else []

    @property
    def content_weights(self) -> list[tf.Variable]:
        """What training changes in the content path beside the linear map."""
        return [weight for layer in self.content_layers for weight in layer.trainable_weights]

    def call(self, features, training=None, own_only: bool = False):
        """features: the contract's, batched (uint8 arrays also as one string an item), or a prepared table's -> unit vectors [B, D].

        own_only: behaviour alone; items without a vector of their own are then zero.
        """
        row = features["own_row"] if "own_row" in features else self.row_of_id(features["item_id"])
        is_warm = tf.cast(row > 0, tf.float32)[:, None]
        direction = tf.math.l2_normalize(self.own(row), -1) * is_warm
        if self.encoders and not own_only:
            content, _ = self.content(features, training=training)
            listeners = tf.gather(self.listeners, row)
            trust = tf.math.divide_no_nan(listeners, listeners + self.shrinkage)[:, None]
            direction = tf.math.l2_normalize(trust * direction + (1 - trust) * content, -1)
        return with_gain(direction, tf.sigmoid(tf.gather(self.gain_logits, row))) if self.config.item_gain else direction

    def content(self, features, training=None):
        """The unit content vector [B, D], and what each token was trusted with [B, M]."""
        raw, gates = self.raw_content(features, training=training)
        return tf.math.l2_normalize(raw, -1), gates

    def raw_content(self, features, training=None):
        """The content vector [B, D] before it is made unit: the linear map and what the encoders add to it; and the gates [B, M]."""
        features = {name: _pixels(name, value) for name, value in features.items()}
        for name in self.modalities:
            if name in STATISTICS and f"{name}_statistics" not in features:
                features[f"{name}_statistics"] = STATISTICS[name](*(features[column] for column in self.encoders[name].inputs))
        tokens = tf.stack([encoder(features, training=training) for encoder in self.encoders.values()], 1)  # [B, M, W]
        there = [features[f"has_{name}"] > 0 for name in self.modalities]
        if ATTRIBUTES in self.encoders:
            there.append(tf.ones_like(there[0]) if there else tf.ones([tf.shape(tokens)[0]], tf.bool))
        pooled, gates = self.fusion(tokens, tf.stack(there, 1), training=training)
        return self.linear(features) + self.project(self.dropout(pooled, training=training)), gates

    def prepare(self, table: ItemTable, fit_on: np.ndarray) -> None:
        """Add the media statistics and `own_row` to the table, once, and measure every scale on the items `fit_on` int [R]."""
        table.arrays["own_row"] = self.row_of_id(tf.constant(table.item_ids)).numpy()
        for name in self.modalities:
            if name in STATISTICS:
                table.arrays[f"{name}_statistics"] = _statistics(name, table, self.encoders[name].inputs)
            if hasattr(self.encoders[name], "fit"):
                names = [column for column in self.inputs if column.startswith(name)]
                having = fit_on[table.arrays[f"has_{name}"][fit_on] > 0]
                self.encoders[name].fit(table.take(having, names))
        if self.encoders:
            self.linear.fit_scale(table.take(fit_on, self.inputs))
            self.raw_content(_tensors(table.take(fit_on[:1], self.inputs)))  # builds every layer

    def start_at(self, vectors: np.ndarray) -> None:
        """Place the warm items: unit vectors, float32 [number of warm ids, dimensions of the own vectors], in the order of the ids."""
        self.own.build(None)
        self.own.embeddings.assign(np.concatenate([np.zeros_like(vectors[:1]), vectors]))

    def own_vectors(self, table: ItemTable, rows: np.ndarray) -> np.ndarray:
        """Unit own vectors of warm items, without their gain: float32 [R, D]."""
        return tf.math.l2_normalize(self.own(tf.constant(table.arrays["own_row"][rows])), -1).numpy()

    def encode_own(self, table: ItemTable) -> np.ndarray:
        """`encode` by behaviour alone; items that nobody has played are zero."""
        return self({"own_row": tf.constant(table.arrays["own_row"])}, training=False, own_only=True).numpy()

    def encode(self, table: ItemTable) -> np.ndarray:
        """Unit vectors of all items of a prepared table: float32 [N, D]."""
        parts = [np.arange(start, min(start + _ENCODE_BATCH, len(table))) for start in range(0, len(table), _ENCODE_BATCH)]
        return np.concatenate([self._encode(_tensors(table.take(rows, self.inputs))).numpy() for rows in parts])

    @tf.function(reduce_retracing=True)
    def _encode(self, features):
        return self(features, training=False)


COLD_GAIN = 0.5  # where no item has a gain of its own: all are equal, so only similarity of items sees it


def with_gain(directions, gains):
    """Unit vectors whose dot product with a user that is 0 in the last dimension is gain times similarity.

    directions: float [B, D - 1], unit norm; gains: float [B], from 0 to 1. Returns [B, D], unit norm: the last dimension holds the rest
    (Bachrach et al., RecSys 2014).
    """
    rest = tf.sqrt(tf.maximum(1.0 - gains**2, 1e-12))
    return tf.concat([directions * gains[:, None], rest[:, None]], -1)


class ProfileTower(tf.keras.layers.Layer):
    """The user is the sum of what they chose: a weighted sum of unit item vectors and a learned prior (Vančura et al., ELSA, 2022).

    Each kind of event has a learned gain, which starts at its rule's weight, at 0 where the event is no success.
    """

    def __init__(self, rules: Mapping[str, EventRule], config: RetrievalConfig, **kwargs):
        super().__init__(**kwargs)
        start = [0.0, 1.0, *(rule.weight if rule.positive else 0.0 for rule in rules.values())]
        self.gains = self.add_weight("gains", [len(start)], initializer=tf.keras.initializers.Constant(start))
        self.has_gain = config.item_gain
        dim = config.embedding_dim - config.item_gain
        self.direction_prior = self.add_weight("prior", [dim], initializer=tf.keras.initializers.RandomNormal(stddev=0.01))

    @property
    def prior(self):
        """What is known of a user without a history: float [D]."""
        return tf.pad(self.direction_prior, [[0, int(self.has_gain)]])

    def directions(self, vectors):
        """Item vectors [..., D] as parts of a profile: without their gain, 0 in its dimension; a zero vector stays zero."""
        if not self.has_gain:
            return vectors
        directions = tf.math.l2_normalize(vectors[..., :-1], -1)
        return tf.concat([directions, tf.zeros_like(vectors[..., -1:])], -1)

    def weights_of(self, history):
        """How much each interaction counts: float [B, L]; 0 where padded."""
        return tf.gather(self.gains, history["events"]) * _is_there(history["vectors"])

    def call(self, history, training=None):
        """history: `vectors` [B, L, D] (zeros where padded), `events` int [B, L], `age_s` [B, L] -> unit vector [B, D]."""
        total = tf.einsum("bl,bld->bd", self.weights_of(history), self.directions(history["vectors"]))
        return tf.math.l2_normalize(total + self.prior, -1)

    def before_each(self, history, ordered, training=None):
        """The user before each interaction: from the earlier ones, or where there is no order from all the others. [B, L, D], unit norm.

        ordered: bool [B].
        """
        parts = self.weights_of(history)[..., None] * self.directions(history["vectors"])
        others = tf.where(ordered[:, None, None], tf.cumsum(parts, 1, exclusive=True), tf.reduce_sum(parts, 1, keepdims=True) - parts)
        return tf.math.l2_normalize(others + self.prior, -1)


class SequenceTower(tf.keras.layers.Layer):
    """A causal Transformer over the history: item vector, kind of event, time from each event to the next (the last: to the request).

    The output after t interactions is the user before interaction t + 1, so one pass trains every position (Kang & McAuley, SASRec, 2018).
    """

    def __init__(self, rules: Mapping[str, EventRule], config: RetrievalConfig, **kwargs):
        super().__init__(**kwargs)
        dim = config.embedding_dim
        self.longest = config.history_length
        self.start = self.add_weight("start", [dim], initializer=tf.keras.initializers.RandomNormal(stddev=0.05))
        self.events = tf.keras.layers.Embedding(len(rules) + UNKNOWN_EVENT + 1, dim)
        self.gaps = tf.keras.layers.Embedding(GAP_BUCKETS, dim)
        self.project = tf.keras.layers.Dense(dim)
        self.positions = keras_nlp.layers.PositionEmbedding(self.longest + 1)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.blocks = [
            keras_nlp.layers.TransformerDecoder(
                2 * dim, config.sequence_heads, dropout=config.dropout, activation="gelu", normalize_first=True
            )
            for _ in range(config.sequence_layers)
        ]
        self.normalise = tf.keras.layers.LayerNormalization()

    def call(self, history, training=None):
        """As ProfileTower.call. Interactions beyond the most recent `history_length` are not seen; padding may stand anywhere."""
        history = compact(history, self.longest)
        states = self._states(history, training)
        length = tf.reduce_sum(tf.cast(_is_there(history["vectors"]), tf.int32), 1)
        return tf.gather(states, length, batch_dims=1)

    def before_each(self, history, ordered, training=None):
        """As ProfileTower.before_each; without order, interactions are taken in the order given. History at most `history_length` long."""
        return self._states(history, training)[:, :-1]

    def _states(self, history, training):
        mask = _is_there(history["vectors"]) > 0
        tokens = self.project(history["vectors"]) + self.events(history["events"]) + self.gaps(gap_buckets(history["age_s"], mask))
        start = tf.broadcast_to(self.start, [tf.shape(tokens)[0], 1, tokens.shape[-1]])
        tokens = tf.concat([start, tokens], 1)  # [B, 1 + L, D]
        mask = tf.concat([tf.ones_like(mask[:, :1]), mask], 1) if mask.shape[1] != 0 else tf.ones(tf.shape(tokens)[:2], tf.bool)
        tokens = self.dropout(tokens + self.positions(tokens), training=training)
        for block in self.blocks:
            tokens = block(tokens, decoder_padding_mask=mask, training=training)
        return tf.math.l2_normalize(self.normalise(tokens), -1)


GAP_BUCKETS = 24  # 0 = no time known, then one for each doubling from a minute on


def gap_buckets(age_s, mask):
    """Bucket of the time from each interaction to the next, the last one's to the request. float, bool [B, L] -> int32 [B, L]."""
    following = tf.concat([age_s[:, 1:], tf.zeros_like(age_s[:, :1])], 1)
    gap_s = tf.maximum(age_s - following, 0.0)  # padding has age 0, so the last interaction's gap is its age
    bucket = 1 + tf.cast(tf.math.log1p(gap_s / 60) / tf.math.log(2.0), tf.int32)
    is_timed = tf.reduce_any(age_s > 0, 1, keepdims=True) & mask
    return tf.where(is_timed, tf.minimum(bucket, GAP_BUCKETS - 1), 0)


def compact(history, longest: int):
    """The most recent `longest` interactions, moved to the front, in their order; padding (zero vectors) may stand anywhere before."""
    there = tf.cast(_is_there(history["vectors"]), tf.int32)
    order = tf.argsort(there, axis=1, stable=True)[:, -longest:]  # padding first, so the newest are at the end
    there = tf.gather(there, order, batch_dims=1)
    order = tf.gather(order, tf.argsort(-there, axis=1, stable=True), batch_dims=1)
    return {name: tf.gather(value, order, batch_dims=1) for name, value in history.items()}


def user_tower(rules: Mapping[str, EventRule], config: RetrievalConfig) -> tf.keras.layers.Layer:
    """The user tower that the configuration names."""
    kind = ProfileTower if config.user_tower == "profile" else SequenceTower
    return kind(rules, config, name="user_tower")


def _is_there(vectors):
    return tf.cast(tf.reduce_any(vectors != 0, -1), tf.float32)


def _encoder(name: str, table: ItemTable, config: RetrievalConfig) -> tf.keras.layers.Layer:
    encoder = config.encoder
    if name == "text":
        return TextEncoder(table.vocabulary_sizes["words"], encoder, name=name)
    if name == "tags":
        return TagEncoder(table.vocabulary_sizes["tags"], encoder, name=name)
    if name == "audio":
        return AudioEncoder(encoder, name=name)
    if name == "video":
        return VideoEncoder(encoder, name=name)
    return EmbeddingEncoder(name, encoder, name=name)


def _attributes(table: ItemTable, config: RetrievalConfig) -> AttributeEncoder | None:
    columns = [name for name in table.arrays if name.endswith("_id")]
    known = {name: table.vocabulary_sizes[name.removesuffix("_id")] for name in columns if table.arrays[name].any()}
    has_numbers = bool(table.arrays["numeric_present"].any())
    return AttributeEncoder(known, has_numbers, config.encoder, name=ATTRIBUTES) if known or has_numbers else None


def _linear_sources(encoders: Mapping[str, tf.keras.layers.Layer], table: ItemTable) -> tuple[dict[str, Any], dict[str, Any]]:
    """Blocks of the linear map -> (feature, size of its vocabulary or 0), and -> the feature that says whether it is there."""
    sources: dict[str, tuple[str, int]] = {}
    flags: dict[str, str | None] = {}
    for name, encoder in encoders.items():
        for column in encoder.inputs if name == ATTRIBUTES else encoder.inputs[:1]:
            if column == "numeric_present":
                continue
            block = column if name == ATTRIBUTES else name
            vocabulary = {"text": "words", "tags": "tags"}.get(name) or (column.removesuffix("_id") if column.endswith("_id") else "")
            sources[block] = (
                f"{name}_statistics" if name in STATISTICS else column,
                table.vocabulary_sizes[vocabulary] if vocabulary else 0,
            )
            flags[block] = None if name == ATTRIBUTES else f"has_{name}"
    return sources, flags


def _statistics(name: str, table: ItemTable, inputs: Sequence[str]) -> np.ndarray:
    rows = [np.arange(start, min(start + _ENCODE_BATCH, len(table))) for start in range(0, len(table), _ENCODE_BATCH)]
    return np.concatenate([STATISTICS[name](*_tensors(table.take(part, inputs)).values()).numpy() for part in rows])


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def _pixels(name: str, value):
    if name not in _MEDIA or value.dtype != tf.string:
        return value
    shape = _MEDIA[name].shape
    return tf.reshape(tf.io.decode_raw(value, tf.uint8, fixed_length=int(np.prod(shape))), [-1, *shape])
