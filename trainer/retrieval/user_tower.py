"""The user towers: a history of unit item vectors -> unit vector. One interface: `call`, and `before_each` for training all positions.

B users, L interactions of a history, D embedding_dim, P models side by side.
"""

from __future__ import annotations

import keras_nlp

from components.config import DataConfig
from components.datasets.interactions import FIRST_EVENT
from trainer.config.retrieval import RetrievalConfig
from trainer.keras import tf
from trainer.retrieval.ensemble import unit_parts, without_gain
from trainer.retrieval.user_features import KnownUsers, UserOffset


class ProfileTower(tf.keras.layers.Layer):
    """The user is the sum of what they chose: a weighted sum of unit item vectors and a learned prior (Vančura et al., ELSA, 2022).

    Each kind of event has a learned gain, which starts at its rule's weight, at 0 where the event is no success.
    """

    def __init__(self, data: DataConfig, config: RetrievalConfig, users: KnownUsers | None = None, **kwargs):
        super().__init__(**kwargs)
        start = [0.0, 1.0, *(rule.weight if rule.positive else 0.0 for rule in data.event_rules.values())]
        self.gains = self.add_weight("gains", [len(start)], initializer=tf.keras.initializers.Constant(start))
        self.has_gain, self.parts = config.item_gain, config.side_by_side
        dim = config.embedding_dim - self.has_gain * self.parts
        self.direction_prior = self.add_weight(
            "prior", [dim], initializer=tf.keras.initializers.RandomNormal(stddev=0.01)
        )
        self.offset = UserOffset(users, dim, config) if users else None

    def prior(self, users, training=None):
        """What is known of users without their history: float [B, D]. users: int [B], rows of the known users."""
        known = tf.repeat(self.direction_prior[None], tf.shape(users)[0], 0)
        if self.offset is not None:
            known += self.offset(users, training=training)
        if not self.has_gain:
            return known
        return tf.concat([tf.pad(part, [[0, 0], [0, 1]]) for part in tf.split(known, self.parts, -1)], -1)

    def directions(self, vectors):
        """Item vectors [..., D] as parts of a profile: without their gain, 0 in its dimension; a zero vector stays zero."""
        return without_gain(vectors, self.parts) if self.has_gain else vectors

    def weights_of(self, history):
        """How much each interaction counts: float [B, L]; 0 where padded."""
        return tf.gather(self.gains, history["events"]) * _is_there(history["vectors"])

    def call(self, history, training=None):
        """history: `vectors` [B, L, D] (zeros where padded), `events` int [B, L], `age_s` [B, L], `users` int [B] -> unit vector [B, D]."""
        total = tf.einsum("bl,bld->bd", self.weights_of(history), self.directions(history["vectors"]))
        return unit_parts(total + self.prior(history["users"], training), self.parts)

    def before_each(self, history, ordered, training=None):
        """The user before each interaction: from the earlier ones, or where there is no order from all the others. [B, L, D], unit norm.

        ordered: bool [B].
        """
        parts = self.weights_of(history)[..., None] * self.directions(history["vectors"])
        others = tf.where(
            ordered[:, None, None], tf.cumsum(parts, 1, exclusive=True), tf.reduce_sum(parts, 1, keepdims=True) - parts
        )
        return unit_parts(others + self.prior(history["users"], training)[:, None], self.parts)


class SequenceTower(tf.keras.layers.Layer):
    """A causal Transformer over the history: item vector, kind of event, time from each event to the next (the last: to the request).

    The output after t interactions is the user before interaction t + 1, so one pass trains every position (Kang & McAuley, SASRec, 2018).
    """

    def __init__(self, data: DataConfig, config: RetrievalConfig, users: KnownUsers | None = None, **kwargs):
        super().__init__(**kwargs)
        dim = config.embedding_dim
        self.longest = data.history_length
        self.start = self.add_weight("start", [dim], initializer=tf.keras.initializers.RandomNormal(stddev=0.05))
        self.events = tf.keras.layers.Embedding(len(data.event_rules) + FIRST_EVENT, dim)
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
        self.offset = UserOffset(users, dim, config) if users else None

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
        tokens = (
            self.project(history["vectors"])
            + self.events(history["events"])
            + self.gaps(gap_buckets(history["age_s"], mask))
        )
        start = tf.broadcast_to(self.start, [tf.shape(tokens)[0], 1, tokens.shape[-1]])
        if self.offset is not None:
            start += self.offset(history["users"], training=training)[:, None]
        tokens = tf.concat([start, tokens], 1)  # [B, 1 + L, D]
        mask = (
            tf.concat([tf.ones_like(mask[:, :1]), mask], 1)
            if mask.shape[1] != 0
            else tf.ones(tf.shape(tokens)[:2], tf.bool)
        )
        tokens = self.dropout(tokens + self.positions(tokens), training=training)
        for block in self.blocks:
            tokens = block(tokens, decoder_padding_mask=mask, training=training)
        return tf.math.l2_normalize(self.normalise(tokens), -1)


class BothTowers(tf.keras.layers.Layer):
    """The sum of the two: what somebody likes, and where they are going. How much the profile counts is learned."""

    def __init__(self, data: DataConfig, config: RetrievalConfig, users: KnownUsers | None = None, **kwargs):
        super().__init__(**kwargs)
        self.sequence, self.profile = SequenceTower(data, config, users), ProfileTower(data, config, users)
        self.offset = self.sequence.offset
        self.share = self.add_weight("prior_share", [], initializer=tf.keras.initializers.Constant(START_SHARE))

    def call(self, history, training=None):
        """As ProfileTower.call."""
        return self._sum(self.sequence(history, training=training), self.profile(history, training=training))

    def before_each(self, history, ordered, training=None):
        """As SequenceTower.before_each."""
        states = self.sequence.before_each(history, ordered, training=training)
        return self._sum(states, self.profile.before_each(history, ordered, training=training))

    def _sum(self, state, profile):
        return tf.math.l2_normalize(state + self.share * profile, -1)


START_SHARE = 1.0  # of the profile beside the sequence
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
    moved = {name: tf.gather(history[name], order, batch_dims=1) for name in ("vectors", "events", "age_s")}
    return {**history, **moved}


TOWERS = {"profile": ProfileTower, "sequence": SequenceTower, "both": BothTowers}


def user_tower(data: DataConfig, config: RetrievalConfig, users: KnownUsers | None = None) -> tf.keras.layers.Layer:
    """The user tower that the configuration names."""
    return TOWERS[config.user_tower](data, config, users, name="user_tower")


def rows_of(tower: tf.keras.layers.Layer, user_ids):
    """Rows of the known users: int [B]. user_ids: string [B]."""
    return tf.zeros(tf.shape(user_ids), tf.int64) if tower.offset is None else tower.offset.row_of_id(user_ids)


def _is_there(vectors):
    return tf.cast(tf.reduce_any(vectors != 0, -1), tf.float32)
