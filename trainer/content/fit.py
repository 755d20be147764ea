"""Fits the content encoders to the collaborative embeddings, so that an item without interactions is placed by its
content.

R items with an id embedding, B items of a step, D dimensions of the embeddings.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainer.config.retrieval import RetrievalConfig
from trainer.content.adversarial import Adversary, harden
from trainer.data import ItemTable
from trainer.encoders.augment import l2_penalty
from trainer.encoders.tuned import LayerwiseAdamW
from trainer.keras import tf
from trainer.loop import ProgressBar, Stopping, run_epochs
from trainer.strategy import deal, global_sum
from trainer.towers.item_tower import ItemTower

_TARGETS = "targets"  # beside the features of a step
_BATCH = 64  # items a step
_HELD_OUT = 0.2  # share of the items that decides when the encoders stop
_MOST_ITEMS = 20_000  # items that the content is fitted on
_MIN_ITEMS = 20  # with fewer in either part the held-out error says nothing
_TRIAL_STEPS = 32  # in which the encoders must lower the held-out error once, or they are not trained


@dataclass(frozen=True)
class ContentReport:
    """Whether the content encoders were trained beside the linear map, and why.

    The errors are mean squared distances of held-out items to their id embeddings; NaN where they were not measured.
    """

    decision: str  # in words
    linear: float = math.nan  # error of the linear map alone
    with_encoders: float = math.nan  # error after the best epoch
    epochs: int = 0  # that the encoders were trained for; 0: the linear map alone is served

    def as_json(self) -> dict[str, Any]:
        """The report with the headline that the command line shows; what was not measured is None."""
        values = {name: None if value != value else value for name, value in asdict(self).items()}
        return {"headline": f"content encoders: {self.decision}", **values}


def fit_content(
    tower: ItemTower,
    table: ItemTable,
    warm: np.ndarray,
    config: RetrievalConfig,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> ContentReport:
    """Fits the content path of a tower to its trained id embeddings.

    First the linear map in closed form, then the encoders to its residuals, for as many epochs as lower the error on
    items held out (by hash of their id). They are not trained where the items are fewer than `content_min_items`, and
    no further where a trial of `_TRIAL_STEPS` steps does not lower the error. The error is the squared distance to the
    id embedding; with an adversary, the mean of that and of the same on the moved inputs.
    Afterwards the tower uses its encoders only where they were trained: untrained they add nothing.
    table: prepared by the tower.
    warm: int [R], rows of items with an id embedding.
    callbacks: of the epochs that look for the least error on items held out.
    """
    tower.uses_encoders = True
    tagged = np.zeros(0, int) if tower.tag_head is None else _some(warm[table.arrays["has_tags"][warm] > 0])
    warm = _some(warm)
    targets = tower.id_embeddings(table, warm)
    is_held_out = _is_held_out(table, warm)
    if not config.content_epochs:
        report = ContentReport("not trained (content_epochs is 0)")
    elif len(warm) < config.content_min_items or min(is_held_out.sum(), (~is_held_out).sum()) < _MIN_ITEMS:
        report = ContentReport(
            f"not trained, {len(warm)} items with interactions are too few to tell a gain over the linear map"
        )
    else:
        report = _search_epochs(tower, table, warm, targets, tagged, config, callbacks)
    _solve(tower, table, warm, targets, tagged, config)
    if report.epochs:
        train_epoch = _epoch(tower, table, warm, targets, config)
        variables = [variable for variable, _ in tower.content_rates]
        run_epochs(train_epoch, variables, report.epochs, callbacks=[ProgressBar("content, on all items")])
    tower.uses_encoders = report.epochs > 0
    return report


def _search_epochs(
    tower: ItemTower,
    table: ItemTable,
    warm: np.ndarray,
    targets: np.ndarray,
    tagged: np.ndarray,
    config: RetrievalConfig,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> ContentReport:
    """Finds the number of epochs on held-out items, and leaves the encoders as they were.

    tagged: as `_solve` takes it.
    """
    is_held_out = _is_held_out(table, warm)
    fitted, held_out = warm[~is_held_out], warm[is_held_out]
    _solve(tower, table, fitted, targets[~is_held_out], tagged[~_is_held_out(table, tagged)], config)
    variables = [variable for variable, _ in tower.content_rates]
    before = [variable.numpy() for variable in variables]
    objective = tf.function(_objective(tower, config), reduce_retracing=True)

    def error() -> float:
        return _error(objective, tower, table, held_out, targets[is_held_out])

    linear = error()
    trial = min(math.ceil(_TRIAL_STEPS / math.ceil(len(fitted) / _BATCH)), config.content_patience)
    stopping = Stopping("error", error, config.content_patience, False, start_value=linear, start_patience=trial)
    train_epoch = _epoch(tower, table, fitted, targets[~is_held_out], config)
    told = [ProgressBar("content"), *callbacks]
    progress = run_epochs(train_epoch, variables, config.content_epochs, stopping, told)
    for variable, value in zip(variables, before):
        variable.assign(value)
    epochs = progress.best_epoch + 1
    decision = f"not trained, {len(progress.logs)} epochs did not lower the linear map's error on held-out items"
    if epochs:
        gain = 1 - progress.best_value / linear
        decision = f"trained for {epochs} epochs, {gain:.2%} below the linear map's error on held-out items"
    return ContentReport(decision, linear, progress.best_value, epochs)


def _solve(
    tower: ItemTower,
    table: ItemTable,
    rows: np.ndarray,
    targets: np.ndarray,
    tagged: np.ndarray,
    config: RetrievalConfig,
) -> None:
    """Fits what has a closed form: the linear map, hardened if there is an adversary, and the tag head's part.

    rows, targets: int [R] and float [R, D], of the linear map.
    tagged: int [T], rows of items that have tags, for the tag head.
    """
    _solve_tags(tower, table, tagged)
    designs = tower.linear.designs(table.take(rows, tower.linear.inputs))
    tower.linear.solve(designs, targets)
    if config.adversary:
        harden(tower, config.adversary, designs, targets, lambda part: _features(tower, table, rows[part]))


def _solve_tags(tower: ItemTower, table: ItemTable, tagged: np.ndarray) -> None:
    if tower.tag_head is None or not len(tagged):
        return
    features = table.take(tagged, tower.linear.inputs)
    designs = tower.without_tags(tower.linear.designs(features))
    tower.tag_head.solve(designs, tower.tag_head.labels(features["tag_ids"]).numpy())


def _objective(tower: ItemTower, config: RetrievalConfig):
    """A function of features, targets and `training` -> float [B]: the squared error of each item.

    In training the loss of the tag head is added. With an adversary it is the mean of that and of the same on the moved
    inputs.
    """

    def errors(features, targets, training=False):
        seen = tower.tokens_of(features, training=training)
        squares = tf.reduce_sum((tower.fused(*seen, training=training)[0] - targets) ** 2, -1)
        if not (training and config.tag_loss_weight and tower.tag_head is not None):
            return squares
        logits = tower.tag_logits(*seen, training=training)
        return squares + config.tag_loss_weight * tower.tag_head.loss(logits, seen[0]["tag_ids"], seen[0]["has_tags"])

    if config.adversary is None:
        return errors
    adversary = Adversary(tower, config.adversary, errors)
    return lambda features, targets, training=False: (
        (errors(features, targets, training) + errors(adversary(features, targets), targets, training)) / 2
    )


def _epoch(
    tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray, config: RetrievalConfig
) -> Callable[[int], None]:
    """A function that trains the encoders for an epoch on items int [R] with targets float [R, D]."""
    objective = _objective(tower, config)
    strategy = tf.distribute.get_strategy()
    optimizer = LayerwiseAdamW(tower.content_rates, config.weight_decay)

    def replica_step(batch):
        with tf.GradientTape() as tape:
            errors = objective(batch, batch[_TARGETS], training=True)
            loss = tf.reduce_sum(errors) / global_sum(tf.ones_like(errors))
            if config.encoder.l2:
                loss += l2_penalty(optimizer.variables, config.encoder.l2) / strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, optimizer.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(gradients)

    step = tf.function(lambda batch: strategy.run(replica_step, args=(batch,)), reduce_retracing=True)

    def train_epoch(epoch: int) -> None:
        order = np.random.default_rng(config.seed + epoch).permutation(len(rows))
        for start in range(0, len(order), _BATCH):
            chosen = np.sort(order[start : start + _BATCH])
            step(deal({**table.take(rows[chosen], tower.inputs), _TARGETS: targets[chosen]}))

    return train_epoch


def _error(objective, tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray) -> float:
    """The mean of the objective over some items."""
    parts = [slice(start, start + _BATCH) for start in range(0, len(rows), _BATCH)]
    errors = [objective(_features(tower, table, rows[part]), tf.constant(targets[part])).numpy() for part in parts]
    return float(np.concatenate(errors).mean())


def _features(tower: ItemTower, table: ItemTable, rows: np.ndarray) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in table.take(rows, tower.inputs).items()}


def _some(rows: np.ndarray) -> np.ndarray:
    """At most _MOST_ITEMS of some rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ITEMS)).astype(int)]


def _is_held_out(table: ItemTable, rows: np.ndarray) -> np.ndarray:
    return np.array([_share(table.item_ids[row]) < _HELD_OUT for row in rows], bool)


def _share(item_id: bytes) -> float:
    """Where the item's hash lies between 0 and 1."""
    return int.from_bytes(hashlib.blake2b(b"content:" + item_id, digest_size=8).digest(), "big") / 2**64
