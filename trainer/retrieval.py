"""The two-tower model, its training, and its validation by full ranking.

B users, L interactions, C candidates of a step, N items, D embedding_dim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
import tensorflow_recommenders as tfrs
from tqdm import tqdm

from trainer import losses, metrics
from trainer.config import RetrievalConfig
from trainer.content import fit_content
from trainer.data import ItemTable, Sequences, as_dataset, training_batches
from trainer.keras import tf
from trainer.towers import ItemTower

_NOT_DECAYED = ["gains", "prior", "bias", "gamma", "beta", "trust"]  # weights that have no reason to be small


class Retrieval(tfrs.Model):
    """An item tower and a user tower, trained together on behaviour: every item vector in a step, in histories and as candidate, comes from
    one pass over the items' own vectors. Content learns from those afterwards.
    """

    def __init__(self, item_tower: ItemTower, user_tower: tf.keras.layers.Layer, item_share: np.ndarray, config: RetrievalConfig):
        """item_share: float [N], each item's share of the training targets."""
        super().__init__()
        self.item_tower, self.user_tower, self.config = item_tower, user_tower, config
        self.item_share = tf.constant(item_share, tf.float32)
        self.task = losses.sampled_softmax(config.temperature)

    def compute_loss(self, inputs, training=False):
        """inputs: a batch of `trainer.data.training_batches`. Returns a scalar."""
        vectors = self.item_tower(inputs["features"], training=training, own_only=True)  # [C, D]
        if self.config.loss == "profile_cosine":
            return self._profile_loss(vectors, inputs, training)
        return self._softmax_loss(vectors, inputs, training)

    def _profile_loss(self, vectors, inputs, training):
        history, there = self._history(vectors, inputs)
        shape = [tf.shape(there)[0], tf.shape(vectors)[0]]
        weights = self.user_tower.weights_of(history)  # [B, L]
        if training:
            share = self.config.history_dropout
            weights *= tf.cast(tf.random.uniform(tf.shape(weights)) >= share, tf.float32)
        given = _spread(inputs["items"], weights, shape)  # [B, C]
        directions = self.user_tower.directions(vectors)
        profile = tf.matmul(given, directions) + self.user_tower.prior  # [B, D]
        own = given * tf.reduce_sum(directions * vectors, -1)  # unit directions: an item's own contribution is its weight, times its gain
        predicted = tf.matmul(profile, vectors, transpose_b=True) - own
        target = _spread(inputs["items"], inputs["weights"] * tf.cast(inputs["positives"], tf.float32), shape)
        return losses.profile_cosine(predicted, target, self.config.sharpness, self.config.activity_power)

    def _softmax_loss(self, vectors, inputs, training):
        history, there = self._history(vectors, inputs)
        states = self.user_tower.before_each(history, inputs["ordered"], training=training)  # [B, L, D]
        at = tf.random.shuffle(tf.where(there & inputs["positives"]))[: self.config.targets_per_step]  # [Q, 2]
        queries, targets = tf.gather_nd(states, at), tf.gather_nd(inputs["items"], at)
        weights = tf.gather_nd(inputs["weights"], at)
        if self.config.loss == "full_softmax":
            return losses.full_softmax(queries, vectors, targets, weights, self.config.temperature)
        extra = tf.random.uniform([self.config.negatives], 0, tf.shape(vectors)[0], tf.int32)
        chosen = tf.concat([targets, extra], 0)
        candidates = tf.gather(inputs["candidates"], chosen)
        probability = losses.sampling_probability(
            tf.gather(self.item_share, candidates), len(self.item_share), tf.shape(targets)[0], self.config.negatives
        )
        total = self.task(
            queries,
            tf.gather(vectors, chosen),
            sample_weight=weights,
            candidate_sampling_probability=probability if self.config.log_q else None,
            candidate_ids=candidates,
            compute_metrics=False,
        )
        return total / tf.maximum(tf.reduce_sum(weights), 1e-6)

    def _history(self, vectors, inputs):
        there = inputs["items"] >= 0
        own = tf.gather(vectors, tf.maximum(inputs["items"], 0)) * tf.cast(there, tf.float32)[..., None]
        return {"vectors": own, "events": inputs["events"], "age_s": inputs["age_s"]}, there

    @tf.function(reduce_retracing=True)
    def encode_users(self, vectors, items, events, age_s):
        """User vectors [B, D] from item vectors [N, D] and padded histories [B, L] (-1 = padding)."""
        history, _ = self._history(vectors, {"items": items, "events": events, "age_s": age_s})
        return self.user_tower(history, training=False)


class Validation(tf.keras.callbacks.Callback):
    """After each epoch: rank the whole catalogue for every user of the eval split, what they know hidden, and log the metric."""

    def __init__(self, sequences: Sequences, table: ItemTable, metric: str):
        super().__init__()
        self.sequences, self.table, self.metric = sequences, table, metric
        self.truth, self.seen = targets_and_history(sequences, len(table))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs[f"val_{self.metric}"] = self.value(self.model.item_tower.encode_own(self.table))

    def value(self, vectors: np.ndarray, candidates: np.ndarray | None = None) -> float:
        """The metric's mean over users; vectors: float32 [N, D]; candidates: bool [N], where only some items are to be ranked."""
        cutoff = int(self.metric.partition("@")[2])
        result = metrics.evaluate(
            lambda rows: user_vectors(self.model, self.sequences, vectors, rows) @ vectors.T,
            self.truth,
            self.seen,
            cutoffs=(cutoff,),
            candidates=candidates,
        )
        return result.mean(self.metric)


class ProgressBar(tf.keras.callbacks.Callback):
    """A bar over the epochs on a terminal, with the loss and the validation metric beside it."""

    def on_train_begin(self, logs=None):
        self.bar = tqdm(total=self.params["epochs"], unit="epoch", desc="behaviour", disable=None, leave=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix({name: f"{value:.4f}" for name, value in (logs or {}).items() if name == "loss" or name.startswith("val_")})
        self.bar.update()

    def on_train_end(self, logs=None):
        self.bar.close()


def user_vectors(model: Retrieval, sequences: Sequences, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The users' vectors [B, D] from the history of their split."""
    history = sequences.padded(rows, history_only=True)
    return model.encode_users(tf.constant(vectors), *(tf.constant(history[name]) for name in ("items", "events", "age_s"))).numpy()


def targets_and_history(sequences: Sequences, num_items: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """What is to be found (positives of the split) and what is hidden (the history): sparse [U, N] each."""
    users = np.repeat(np.arange(len(sequences)), np.diff(sequences.splits))
    rank = np.arange(len(users)) - sequences.splits[users]
    is_history = rank < sequences.num_history[users]
    shape = (len(sequences), num_items)

    def matrix(which: np.ndarray) -> sp.csr_matrix:
        found = sp.csr_matrix((np.ones(int(which.sum())), (users[which], sequences.items[which])), shape)
        found.data[:] = 1
        return found

    return matrix(~is_history & sequences.positives), matrix(is_history)


def train(
    model: Retrieval, train_split: Sequences, eval_split: Sequences, table: ItemTable, log_dir: Path | None = None, verbose: int = 1
) -> tf.keras.callbacks.History:
    """Fit own vectors and user tower until the validation metric no longer grows (the best epoch's weights stay), then the content, then
    how far the content is to be trusted beside behaviour. The tower has prepared the table.
    """
    config = model.config
    rate = config.learning_rate
    if config.cosine_decay:
        steps = -(-int((np.diff(train_split.splits) > 0).sum()) // config.batch_size) * config.epochs
        rate = tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, steps, alpha=0.02)
    optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    for layer in model.item_tower.content_layers:
        layer.trainable = False  # behaviour first
    model.compile(optimizer=optimizer)
    longest = config.history_length if config.user_tower == "sequence" else None
    batches = training_batches(train_split, table, ("own_row",), config.batch_size, config.items_per_step, longest, config.seed)
    callbacks: list[tf.keras.callbacks.Callback] = []
    if len(eval_split):
        monitor = f"val_{config.metric}"
        stop = tf.keras.callbacks.EarlyStopping(monitor, mode="max", patience=config.patience, restore_best_weights=True)
        callbacks = [Validation(eval_split, table, config.metric), stop]
    if verbose:
        callbacks.append(ProgressBar())
    if log_dir is not None:
        callbacks.append(tf.keras.callbacks.TensorBoard(str(log_dir), write_graph=False))
    history = model.fit(as_dataset(batches), epochs=config.epochs, callbacks=callbacks, verbose=0)
    for layer in model.item_tower.content_layers:
        layer.trainable = True
    if model.item_tower.encoders:
        history.content = fit_content(model.item_tower, table, np.flatnonzero(table.arrays["own_row"]), config)
        if len(eval_split):
            _choose_shrinkage(model, table, callbacks[0])
    return history


SHRINKAGES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # listeners for whom content counts as much as behaviour


def _choose_shrinkage(model: Retrieval, table: ItemTable, validation: Validation) -> None:
    values = []
    for shrinkage in SHRINKAGES:
        model.item_tower.shrinkage.assign(shrinkage)
        values.append(validation.value(model.item_tower.encode(table)))
    model.item_tower.shrinkage.assign(SHRINKAGES[int(np.argmax(np.nan_to_num(values)))])


def _spread(items, values, shape):
    """Rectangles [B, L] of positions (-1 = padding) and values -> dense [B, C]; values of one position add up."""
    users = tf.broadcast_to(tf.range(shape[0])[:, None], tf.shape(items))
    values = tf.where(items >= 0, values, 0.0)
    return tf.scatter_nd(tf.stack([users, tf.maximum(items, 0)], -1), values, shape)
