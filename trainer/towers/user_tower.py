"""The user towers: a history of unit item vectors -> unit vector.

All have one interface: `call` for the whole history, and `prefix_states`, from which every interaction is predicted in
training.
B users, L interactions of a history, D embedding_dim.
"""

from __future__ import annotations

from components.config import DataConfig
from components.datasets.interactions import FIRST_EVENT
from trainer.config.retrieval import RetrievalConfig
from trainer.keras_nlp import keras_nlp, tf
from trainer.towers.ensemble import unit_submodels, without_scale
from trainer.towers.user_features import UserEmbedding, UserFeatures


class ProfileTower(tf.keras.layers.Layer):
    """A linear profile: the weighted sum of the vectors of a user's items and a learned prior (Vančura et al., ELSA,
    RecSys 2022).

    Each kind of event has a learned weight, which starts at its rule's, at 0 where the event is no success.
    """

    def __init__(self, data: DataConfig, config: RetrievalConfig, users: UserFeatures | None = None, **kwargs):
        super().__init__(**kwargs)
        start = [0.0, 1.0, *(rule.weight if rule.positive else 0.0 for rule in data.event_rules.values())]
        self.event_weights = self.add_weight("gains", [len(start)], initializer=tf.keras.initializers.Constant(start))
        self.has_scale, self.num_submodels = config.item_scale, config.num_submodels
        dim = config.embedding_dim - self.has_scale * self.num_submodels
        self.direction_prior = self.add_weight(
            "prior", [dim], initializer=tf.keras.initializers.RandomNormal(stddev=0.01)
        )
        self.user_embedding = UserEmbedding(users, dim, config) if users else None

    def prior(self, users, training=None):
        """The profiles of users without their history: float [B, D]. users: int [B], rows of `user_features`."""
        profile = tf.repeat(self.direction_prior[None], tf.shape(users)[0], 0)
        if self.user_embedding is not None:
            profile += self.user_embedding(users, training=training)
        if not self.has_scale:
            return profile
        return tf.concat([tf.pad(part, [[0, 0], [0, 1]]) for part in tf.split(profile, self.num_submodels, -1)], -1)

    def directions(self, vectors):
        """Item vectors as a profile adds them up, without their scale: float [..., D]; a zero vector stays zero."""
        return without_scale(vectors, self.num_submodels) if self.has_scale else vectors

    def weights_of(self, history):
        """The weight of each interaction of a history: float [B, L], 0 where padded."""
        return tf.gather(self.event_weights, history["events"]) * _is_there(history["vectors"])

    def sums(self, directions, flat, counted, num_users, is_padded: bool = False):
        """The weighted sums of the interactions of some users: float [B, D].

        directions: float [N, D], of the items, or of one submodel's part of them.
        flat: `rows`, which user, `items` and `events` of the interactions: int [n], none of them negative.
        counted: float [n], how far each interaction counts.
        is_padded: by a matrix of [n, D], where a compiler has no sparse product.
        """
        kinds = self.event_weights.shape[0]  # a sum for each, so that their weights' gradient needs no more than those
        groups = flat["events"] * num_users + flat["rows"]
        if is_padded:
            parts = tf.gather(directions, flat["items"]) * counted[:, None]
            of_kinds = tf.math.unsorted_segment_sum(parts, groups, kinds * num_users)
        else:
            at = tf.cast(tf.stack([groups, flat["items"]], 1), tf.int64)
            shape = tf.cast([kinds * num_users, tf.shape(directions)[0]], tf.int64)
            of_kinds = tf.sparse.sparse_dense_matmul(tf.SparseTensor(at, counted, shape), directions)
        of_kinds = tf.reshape(of_kinds, [kinds, num_users, directions.shape[-1]])
        return tf.reduce_sum(self.event_weights[:, None, None] * of_kinds, 0)

    def call(self, history, training=None):
        """The unit vectors of some users: float [B, D].

        history: `vectors` float [B, L, D], zeros where padded; `events` int [B, L], event codes; `age_s` float [B, L],
        seconds; `users` int [B], rows of `user_features`.
        """
        total = tf.einsum("bl,bld->bd", self.weights_of(history), self.directions(history["vectors"]))
        return unit_submodels(total + self.prior(history["users"], training), self.num_submodels)

    def prefix_states(self, history, ordered, training=None):
        """The unit vector of each user before each interaction: float [B, L, D].

        history: as in `call`.
        ordered: bool [B]; without an order, an interaction is predicted from all the others.
        """
        parts = self.weights_of(history)[..., None] * self.directions(history["vectors"])
        earlier, others = tf.cumsum(parts, 1, exclusive=True), tf.reduce_sum(parts, 1, keepdims=True) - parts
        total = tf.where(ordered[:, None, None], earlier, others)
        return unit_submodels(total + self.prior(history["users"], training)[:, None], self.num_submodels)


class SequenceTower(tf.keras.layers.Layer):
    """A causal Transformer over the history: item vector, kind of event, and time to the next event (of the last: to
    the request).

    The output after t interactions predicts interaction t + 1, so one pass trains every position (Kang & McAuley,
    SASRec, 2018).
    """

    def __init__(self, data: DataConfig, config: RetrievalConfig, users: UserFeatures | None = None, **kwargs):
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
        self.user_embedding = UserEmbedding(users, dim, config) if users else None

    def call(self, history, training=None):
        """As ProfileTower.call, of the most recent `history_length` interactions; padding may stand anywhere."""
        history = compact(history, self.longest)
        states = self._states(history, training)
        length = tf.reduce_sum(tf.cast(_is_there(history["vectors"]), tf.int32), 1)
        return tf.gather(states, length, batch_dims=1)

    def prefix_states(self, history, ordered, training=None):
        """As ProfileTower.prefix_states, of at most `history_length` interactions; without order, as they are given."""
        return self._states(history, training)[:, :-1]

    def _states(self, history, training):
        """The user after none, one, ... of the interactions: float [B, 1 + L, D]."""
        mask = _is_there(history["vectors"]) > 0
        tokens = (
            self.project(history["vectors"])
            + self.events(history["events"])
            + self.gaps(gap_buckets(history["age_s"], mask))
        )
        start = tf.broadcast_to(self.start, [tf.shape(tokens)[0], 1, tokens.shape[-1]])
        if self.user_embedding is not None:
            start += self.user_embedding(history["users"], training=training)[:, None]
        tokens = tf.concat([start, tokens], 1)  # [B, 1 + L, D]
        mask = tf.concat([tf.ones([tf.shape(mask)[0], 1], tf.bool), mask], 1)
        tokens = self.dropout(tokens + self.positions(tokens), training=training)
        for block in self.blocks:
            tokens = block(tokens, decoder_padding_mask=mask, training=training)
        return tf.math.l2_normalize(self.normalise(tokens), -1)


class BothTowers(tf.keras.layers.Layer):
    """The sum of a sequence tower and a profile tower, with a learned weight of the profile."""

    def __init__(self, data: DataConfig, config: RetrievalConfig, users: UserFeatures | None = None, **kwargs):
        super().__init__(**kwargs)
        self.sequence, self.profile = SequenceTower(data, config, users), ProfileTower(data, config, users)
        self.user_embedding = self.sequence.user_embedding
        start = tf.keras.initializers.Constant(PROFILE_WEIGHT)
        self.profile_weight = self.add_weight("prior_share", [], initializer=start)

    def call(self, history, training=None):
        """As ProfileTower.call."""
        return self._sum(self.sequence(history, training=training), self.profile(history, training=training))

    def prefix_states(self, history, ordered, training=None):
        """As SequenceTower.prefix_states."""
        states = self.sequence.prefix_states(history, ordered, training=training)
        return self._sum(states, self.profile.prefix_states(history, ordered, training=training))

    def _sum(self, state, profile):
        return tf.math.l2_normalize(state + self.profile_weight * profile, -1)


PROFILE_WEIGHT = 1.0  # of the profile beside the sequence, at the start
GAP_BUCKETS = 24  # 0 = no time known, then one for each doubling from a minute on


def gap_buckets(age_s, mask):
    """Buckets the time from each interaction to the next, of the last to the request: int32 [B, L].

    age_s: float [B, L], seconds before the request, 0 where unknown.
    mask: bool [B, L], False where padded.
    """
    following = tf.concat([age_s[:, 1:], tf.zeros_like(age_s[:, :1])], 1)
    gap_s = tf.maximum(age_s - following, 0.0)  # padding has age 0, so the last interaction's gap is its age
    bucket = 1 + tf.cast(tf.math.log1p(gap_s / 60) / tf.math.log(2.0), tf.int32)
    is_timed = tf.reduce_any(age_s > 0, 1, keepdims=True) & mask
    return tf.where(is_timed, tf.minimum(bucket, GAP_BUCKETS - 1), 0)


def compact(history, longest: int):
    """Moves the most recent `longest` interactions of each history to the front, in order; padding is zero vectors, and
    of age 0 afterwards.
    """
    there = tf.cast(_is_there(history["vectors"]), tf.int32)
    order = tf.argsort(there, axis=1, stable=True)[:, -longest:]  # padding first, so the newest are at the end
    there = tf.gather(there, order, batch_dims=1)
    first = tf.argsort(-there, axis=1, stable=True)
    order, there = (tf.gather(each, first, batch_dims=1) for each in (order, there))
    moved = {name: tf.gather(history[name], order, batch_dims=1) for name in ("vectors", "events", "age_s")}
    moved["age_s"] *= tf.cast(there, tf.float32)
    return {**history, **moved}


TOWERS = {"profile": ProfileTower, "sequence": SequenceTower, "both": BothTowers}


def user_tower(data: DataConfig, config: RetrievalConfig, users: UserFeatures | None = None) -> tf.keras.layers.Layer:
    """Builds the user tower that the configuration names."""
    return TOWERS[config.user_tower](data, config, users, name="user_tower")


def rows_of(tower: tf.keras.layers.Layer, user_ids):
    """Rows of `user_features`: int [B]. user_ids: string [B]."""
    return (
        tf.zeros(tf.shape(user_ids), tf.int64)
        if tower.user_embedding is None
        else tower.user_embedding.row_of_id(user_ids)
    )


def _is_there(vectors):
    return tf.cast(tf.reduce_any(vectors != 0, -1), tf.float32)
