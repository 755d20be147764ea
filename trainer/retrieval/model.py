"""The two-tower retrieval model and its training objectives.

B users, L interactions of a user, n of all users, C candidates of a step, N items, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import tensorflow_recommenders as tfrs

from trainer.config.retrieval import RetrievalConfig
from trainer.keras import tf
from trainer.retrieval import losses
from trainer.strategy import global_sum
from trainer.towers.ensemble import unit_submodels
from trainer.towers.item_tower import ItemTower


class Retrieval(tfrs.Model):
    """A two-tower model, trained on interactions; the content encoders are fitted to its id embeddings afterwards.

    In a step, every item vector, in histories and among the candidates, comes from one pass over the id embeddings.
    A subclass for each objective defines `compute_loss`.
    """

    takes_flat = False  # whether `compute_loss` takes flat batches as well
    takes_negatives = False  # whether it takes the batch's uniform negatives

    def __init__(
        self,
        item_tower: ItemTower,
        user_tower: tf.keras.layers.Layer,
        item_share: np.ndarray,
        config: RetrievalConfig,
        history_length: int,
    ):
        """item_share: float [N], each item's share of the training targets.
        history_length: most recent interactions that the user tower sees.
        """
        super().__init__()
        self.item_tower, self.user_tower, self.config = item_tower, user_tower, config
        self.history_length = history_length
        self.item_share = tf.constant(item_share, tf.float32)
        self.random = tf.random.Generator.from_seed(config.seed)

    def compute_loss(self, inputs, training=False):
        """A replica's share of the loss: float [].

        inputs: a batch of `trainer.batches.TrainingBatches`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no objective; see `retrieval_model`")

    def _encoded(self, inputs, training):
        """The candidates' vectors, the history, which of its positions are not padding, and the target weights.

        Returns float [C, D], a dict as user towers take it, bool [B, L] and float [B, L].
        """
        vectors = self.item_tower(inputs["features"], training=training, ids_only=True)
        return vectors, *self._history(vectors, inputs), self._target_weights(inputs)

    def _target_weights(self, inputs):
        """How much each interaction weighs as a target: float, as the batch's `weights` are laid out."""
        if not self.config.half_life_days:
            return inputs["weights"]
        return inputs["weights"] * losses.recency(inputs["age_s"], self.config.half_life_days)

    def _history(self, vectors, inputs):
        """The history as a user tower takes it, and which of its positions are not padding: bool [B, L]."""
        there = inputs["items"] >= 0
        looked_up = tf.gather(vectors, tf.maximum(inputs["items"], 0)) * tf.cast(there, tf.float32)[..., None]
        return {"vectors": looked_up, **{name: inputs[name] for name in ("events", "age_s", "users")}}, there

    @tf.function(reduce_retracing=True)
    def encode_users(self, vectors, items, events, age_s, users):
        """Unit user vectors of some histories.

        vectors: float [N, D], of all items.
        items: int [B, L], rows of `vectors`, -1 where padded.
        events: int [B, L], event codes.
        age_s: float [B, L], seconds.
        users: int [B], rows of `trainer.towers.user_features`.
        Returns float [B, D].
        """
        history, _ = self._history(vectors, {"items": items, "events": events, "age_s": age_s, "users": users})
        return self.user_tower(history, training=False)

    @tf.function(reduce_retracing=True)
    def encode_flat(self, vectors, rows, items, events, users):
        """`encode_users` by a profile tower, of histories that stand one after the other.

        rows: int [n], which of the users each interaction belongs to. items, events: int [n], as above, no padding.
        """
        flat = {"rows": rows, "items": items, "events": events}
        counted = tf.ones(tf.shape(rows))
        total = self.user_tower.sums(self.user_tower.directions(vectors), flat, counted, tf.shape(users)[0])
        return unit_submodels(total + self.user_tower.prior(users), self.config.num_submodels)


class ProfileRetrieval(Retrieval):
    """Trained to reconstruct each user's targets from a random part of their interactions, every submodel by itself."""

    takes_flat = True

    def compute_loss(self, inputs, training=False):
        vectors = self.item_tower(inputs["features"], training=training, ids_only=True)
        is_padded = inputs["items"].shape.rank == 2
        flat = _flattened(inputs) if is_padded else inputs
        num_users, there = tf.shape(inputs["users"])[0], flat["items"] >= 0
        flat = {**flat, "items": tf.maximum(flat["items"], 0)}
        cells = tf.cast(flat["rows"], tf.int64) * tf.shape(vectors, tf.int64)[0] + tf.cast(flat["items"], tf.int64)
        cells = tf.where(there, cells, -1)
        targets = self._target_weights(flat) * tf.cast(flat["positives"] & there, tf.float32)  # [n]
        weights = tf.gather(self.user_tower.event_weights, flat["events"])
        wholes = (self.user_tower.directions(vectors), vectors, self.user_tower.prior(inputs["users"], training))
        dropout = self.config.history_dropout if training else 0.0
        total = 0.0
        for directions, candidates, prior in zip(*(tf.split(one, self.config.num_submodels, -1) for one in wholes)):
            kept = tf.cast(there & (self.random.uniform(tf.shape(cells)) >= dropout), tf.float32)
            profiles = self.user_tower.sums(directions, flat, kept, num_users, is_padded) + prior
            itself = weights * kept * tf.gather(tf.reduce_sum(directions * candidates, -1), flat["items"])
            total += losses.profile_cosine(
                profiles, candidates, itself, targets, cells, self.config.score_exponent,
                self.config.user_weight_exponent,
            )  # fmt: skip
        return total / self.config.num_submodels


class FullSoftmaxRetrieval(Retrieval):
    """Trained by the cross-entropy of positive interactions over all candidates, predicted from those before."""

    def compute_loss(self, inputs, training=False):
        vectors, history, there, weights = self._encoded(inputs, training)
        states = self.user_tower.prefix_states(history, inputs["ordered"], training=training)  # [B, L, D]
        queries, targets, weights = self._sample(states, there, weights, inputs)
        return self._loss_of(queries, targets, weights, vectors, inputs)

    def _sample(self, states, there, weights, inputs):
        """Some of the batch's positive interactions: queries float [Q, D], targets int [Q], weights float [Q]."""
        at = tf.where(there & inputs["positives"])
        order = tf.argsort(self.random.uniform(tf.shape(at)[:1]))
        at = tf.gather(at, order[: self.config.targets_per_step // _replicas()])  # [Q, 2]
        return tf.gather_nd(states, at), tf.gather_nd(inputs["items"], at), tf.gather_nd(weights, at)

    def _loss_of(self, queries, targets, weights, vectors, inputs):
        return losses.full_softmax(queries, vectors, targets, weights, self.config.temperature)


class SampledSoftmaxRetrieval(FullSoftmaxRetrieval):
    """Likewise over the targets of the batch and uniform negatives, corrected for how often an item is sampled."""

    takes_negatives = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.task = losses.sampled_softmax(self.config.temperature, self.config.hard_negatives)

    def _loss_of(self, queries, targets, weights, vectors, inputs):
        chosen = tf.concat([targets, inputs["negatives"]], 0)
        candidates = tf.gather(inputs["candidates"], chosen)
        share, num_items = tf.gather(self.item_share, candidates), len(self.item_share)
        counts = [tf.shape(drawn)[0] for drawn in (targets, inputs["negatives"])]
        probability = losses.sampling_probability(share, num_items, *counts)
        total = self.task(
            queries,
            tf.gather(vectors, chosen),
            sample_weight=weights,
            candidate_sampling_probability=probability if self.config.log_q else None,
            candidate_ids=candidates,
            compute_metrics=False,
        )
        return total / tf.maximum(global_sum(weights), 1e-6)


class RatingRetrieval(Retrieval):
    """Trained by the squared error of ratings, each predicted from the interactions before it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rating_base = tf.Variable(3.0, name="rating_base")
        self.rating_slope = tf.Variable(1.0, name="rating_slope")

    def compute_loss(self, inputs, training=False):
        _, history, there, weights = self._encoded(inputs, training)
        states = self.user_tower.prefix_states(history, inputs["ordered"], training=training)  # [B, L, D]
        predicted = self.rating_base + self.rating_slope * tf.reduce_sum(states * history["vectors"], -1)  # [B, L]
        return losses.rating_mse(predicted, inputs["values"], weights * tf.cast(there, tf.float32))


OBJECTIVES: dict[str, type[Retrieval]] = {  # by the loss that the configuration names
    "profile_cosine": ProfileRetrieval,
    "softmax": SampledSoftmaxRetrieval,
    "full_softmax": FullSoftmaxRetrieval,
    "rating_mse": RatingRetrieval,
}


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def _flattened(inputs):
    """A padded batch as a flat one, with its padding, whose items are -1."""
    rows = tf.broadcast_to(tf.range(tf.shape(inputs["items"])[0])[:, None], tf.shape(inputs["items"]))
    columns = {name: inputs[name] for name in ("items", "events", "age_s", "weights", "positives")}
    return {name: tf.reshape(column, [-1]) for name, column in {**columns, "rows": rows}.items()}
