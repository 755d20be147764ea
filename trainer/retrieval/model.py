"""The two-tower model, its training, and its validation by full ranking.

B users, L interactions, C candidates of a step, N items, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import tensorflow_recommenders as tfrs
from tqdm import tqdm

from components.datasets.interactions import Interactions, window
from trainer.batches import TrainingBatches
from trainer.checkpoints import Checkpoints
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.content.fit import fit_content
from trainer.data import ItemTable
from trainer.evaluation import metrics
from trainer.keras import tf
from trainer.loop import Stopping, fit
from trainer.retrieval import losses
from trainer.retrieval.item_tower import ItemTower
from trainer.strategy import global_sum

_NOT_DECAYED = ["gains", "prior", "bias", "gamma", "beta", "trust", "rating"]  # weights that have no reason to be small


class Retrieval(tfrs.Model):
    """An item tower and a user tower, trained together on behaviour: every item vector in a step, in histories and as candidate, comes from
    one pass over the items' own vectors. Content learns from those afterwards.
    """

    def __init__(
        self,
        item_tower: ItemTower,
        user_tower: tf.keras.layers.Layer,
        item_share: np.ndarray,
        config: RetrievalConfig,
        history_length: int,
    ):
        """item_share: float [N], each item's share of the training targets. history_length: interactions that the user tower sees."""
        super().__init__()
        self.item_tower, self.user_tower, self.config = item_tower, user_tower, config
        self.history_length = history_length
        self.item_share = tf.constant(item_share, tf.float32)
        self.task = losses.sampled_softmax(config.temperature, config.hard_negatives)
        if config.loss == "rating_mse":
            self.rating_base = tf.Variable(3.0, name="rating_base")
            self.rating_slope = tf.Variable(1.0, name="rating_slope")
        self.random = tf.random.Generator.from_seed(config.seed)

    def compute_loss(self, inputs, training=False):
        """inputs: a batch of `trainer.batches.TrainingBatches`. Returns a scalar."""
        vectors = self.item_tower(inputs["features"], training=training, own_only=True)  # [C, D]
        if self.config.half_life_days:
            inputs = {
                **inputs,
                "weights": inputs["weights"] * losses.recency(inputs["age_s"], self.config.half_life_days),
            }
        if self.config.loss == "profile_cosine":
            return self._profile_loss(vectors, inputs, training)
        if self.config.loss == "rating_mse":
            return self._rating_loss(vectors, inputs, training)
        return self._softmax_loss(vectors, inputs, training)

    def _profile_loss(self, vectors, inputs, training):
        history, there = self._history(vectors, inputs)
        shape = [tf.shape(there)[0], tf.shape(vectors)[0]]
        weights = self.user_tower.weights_of(history)  # [B, L]
        target = _spread(inputs["items"], inputs["weights"] * tf.cast(inputs["positives"], tf.float32), shape)
        in_parts = (self.user_tower.directions(vectors), vectors, self.user_tower.prior(inputs["users"], training))
        total = 0.0
        for directions, candidates, prior in zip(
            *(tf.split(whole, self.config.side_by_side, -1) for whole in in_parts)
        ):
            kept = tf.cast(
                self.random.uniform(tf.shape(weights)) >= (self.config.history_dropout if training else 0.0), tf.float32
            )
            given = _spread(inputs["items"], weights * kept, shape)  # [B, C]
            profile = tf.matmul(given, directions) + prior  # [B, D / P]
            own = given * tf.reduce_sum(directions * candidates, -1)
            predicted = tf.matmul(profile, candidates, transpose_b=True) - own
            total += losses.profile_cosine(predicted, target, self.config.sharpness, self.config.activity_power)
        return total / self.config.side_by_side

    def _softmax_loss(self, vectors, inputs, training):
        history, there = self._history(vectors, inputs)
        states = self.user_tower.before_each(history, inputs["ordered"], training=training)  # [B, L, D]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        at = tf.where(there & inputs["positives"])
        lottery = tf.argsort(self.random.uniform(tf.shape(at)[:1]))
        at = tf.gather(at, lottery[: self.config.targets_per_step // replicas])  # [Q, 2]
        queries, targets = tf.gather_nd(states, at), tf.gather_nd(inputs["items"], at)
        weights = tf.gather_nd(inputs["weights"], at)
        if self.config.loss == "full_softmax":
            return losses.full_softmax(queries, vectors, targets, weights, self.config.temperature)
        extra = self.random.uniform([self.config.negatives // replicas], 0, tf.shape(vectors)[0], tf.int32)
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
        return total / tf.maximum(global_sum(weights), 1e-6)

    def _rating_loss(self, vectors, inputs, training):
        history, there = self._history(vectors, inputs)
        states = self.user_tower.before_each(history, inputs["ordered"], training=training)  # [B, L, D]
        predicted = self.rating_base + self.rating_slope * tf.reduce_sum(states * history["vectors"], -1)  # [B, L]
        return losses.rating_mse(predicted, inputs["values"], inputs["weights"] * tf.cast(there, tf.float32))

    def _history(self, vectors, inputs):
        there = inputs["items"] >= 0
        own = tf.gather(vectors, tf.maximum(inputs["items"], 0)) * tf.cast(there, tf.float32)[..., None]
        return {"vectors": own, **{name: inputs[name] for name in ("events", "age_s", "users")}}, there

    @tf.function(reduce_retracing=True)
    def encode_users(self, vectors, items, events, age_s, users):
        """User vectors [B, D] from item vectors [N, D], padded histories [B, L] (-1 = padding) and rows of the known users [B]."""
        history, _ = self._history(vectors, {"items": items, "events": events, "age_s": age_s, "users": users})
        return self.user_tower(history, training=False)


_INTERACTIONS_AT_ONCE = 2_000_000  # of validation, as matrices in memory


class Validation:
    """Ranks the whole catalogue for every user of a split, what they know hidden."""

    def __init__(self, model: Retrieval, sequences: Interactions, table: ItemTable, metric: str):
        self.model, self.sequences, self.table, self.metric = model, sequences, table, metric
        self._block: tuple[np.ndarray, sp.csr_matrix, sp.csr_matrix] | None = None

    def value(self, vectors: np.ndarray, candidates: np.ndarray | None = None) -> float:
        """The metric's mean over users; vectors: float32 [N, D]; candidates: bool [N], where only some items are to be ranked."""
        cutoff = int(self.metric.partition("@")[2])
        values = []
        for users in self.sequences.blocks(_INTERACTIONS_AT_ONCE):
            if self._block is None or not np.array_equal(self._block[0], users):
                self._block = (users, *targets_and_history(self.sequences, len(self.table), users))

            def scores(rows: np.ndarray, users: np.ndarray = users) -> np.ndarray:
                return user_vectors(self.model, self.sequences, vectors, users[rows]) @ vectors.T

            result = metrics.evaluate(scores, *self._block[1:], cutoffs=(cutoff,), candidates=candidates)
            values.append(result.values[self.metric])
        joined = np.concatenate([np.zeros(0), *values])
        return float(joined.mean()) if len(joined) else float("nan")


class ProgressBar(tf.keras.callbacks.Callback):
    """A bar over the epochs on a terminal, with the loss and the validation metric beside it."""

    def on_train_begin(self, logs=None):
        self.bar = tqdm(total=self.params["epochs"], unit="epoch", desc="behaviour", disable=None, leave=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix(
            {name: f"{value:.4f}" for name, value in (logs or {}).items() if name == "loss" or name.startswith("val_")}
        )
        self.bar.update()

    def on_train_end(self, logs=None):
        self.bar.close()


def user_vectors(model: Retrieval, sequences: Interactions, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The users' vectors [B, D] from the history of their split."""
    history = window(sequences, rows, sequences.num_history[rows], model.history_length)
    inputs = (history.items, history.events, history.age_s, sequences.feature_rows(rows))
    return model.encode_users(tf.constant(vectors), *map(tf.constant, inputs)).numpy()


def targets_and_history(
    sequences: Interactions, num_items: int, users: np.ndarray | None = None
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """What is to be found (positives of the split) and what is hidden (the history): sparse [U, N] each.

    users: int [U], rows in ascending order without a gap (default all).
    """
    users = np.arange(len(sequences)) if users is None else users
    first, last = (sequences.splits[users[0]], sequences.splits[users[-1] + 1]) if len(users) else (0, 0)
    items, positives = sequences.items[first:last], sequences.positives[first:last]
    starts = sequences.splits[users] - first
    rows = np.repeat(np.arange(len(users)), sequences.splits[users + 1] - sequences.splits[users])
    is_history = np.arange(len(rows)) - starts[rows] < sequences.num_history[users][rows]

    def matrix(which: np.ndarray) -> sp.csr_matrix:
        found = sp.csr_matrix((np.ones(int(which.sum())), (rows[which], items[which])), (len(users), num_items))
        found.data[:] = 1
        return found

    return matrix(~is_history & positives), matrix(is_history)


def train(
    model: Retrieval,
    train_split: Interactions,
    eval_split: Interactions,
    table: ItemTable,
    log_dir: Path | None = None,
    verbose: int = 1,
    engine: EngineConfig | None = None,
    checkpoints: Checkpoints | None = None,
    callbacks: Iterable[tf.keras.callbacks.Callback] = (),
) -> tf.keras.callbacks.History:
    """Fit own vectors and user tower until the validation metric no longer grows (the best epoch's weights stay), then the content, then
    how far the content is to be trusted beside behaviour. The tower has prepared the table.

    Runs in the strategy that is in scope, in which the model was built. checkpoints: where the first part goes on from after a kill; the
    others start again, from the same weights.
    """
    callbacks = [*callbacks, *([ProgressBar()] if verbose else [])]
    if log_dir is not None:
        callbacks.append(tf.keras.callbacks.TensorBoard(str(log_dir), write_graph=False))
    history = fit_behaviour(model, train_split, eval_split, table, engine, checkpoints, callbacks)
    config = model.config
    tf.keras.utils.set_random_seed(config.seed)  # the rest does not depend on whether the first part was resumed
    if model.item_tower.encoders:
        history.content = fit_content(model.item_tower, table, np.flatnonzero(table.arrays["own_row"]), config)
        if len(eval_split):
            _choose_shrinkage(model, table, Validation(model, eval_split, table, config.metric))
    return history


def fit_behaviour(
    model: Retrieval,
    train_split: Interactions,
    eval_split: Interactions,
    table: ItemTable,
    engine: EngineConfig | None = None,
    checkpoints: Checkpoints | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> tf.keras.callbacks.History:
    """The first part of `train`: own vectors and user tower."""
    config = model.config
    engine = engine or EngineConfig()
    batches = TrainingBatches(
        train_split, table, ("own_row",), config.batch_size, config.items_per_step, model.history_length, config.seed,
        few_shapes=engine.xla,
    )  # fmt: skip
    rate = config.learning_rate
    if config.cosine_decay:
        steps = batches.steps_per_epoch * config.epochs
        rate = tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, steps, alpha=0.02)
    optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    for layer in model.item_tower.content_layers:
        layer.trainable = False  # behaviour first
    if engine.precision == "mixed_float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)  # small gradients would be 0 in 16 bits
    model.compile(optimizer=optimizer)
    validation = Validation(model, eval_split, table, config.metric)
    stopping = Stopping(config.metric, lambda: validation.value(model.item_tower.encode_own(table)), config.patience)
    history = fit(model, batches, config.epochs, stopping if len(eval_split) else None, callbacks, checkpoints, engine)
    for layer in model.item_tower.content_layers:
        layer.trainable = True
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
