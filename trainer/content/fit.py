"""Teaches the content to stand where the listeners put an item, so that an item nobody has played is placed by what it is.

R items with a vector of their own, D dimensions.
"""

from __future__ import annotations

import hashlib

import numpy as np

from trainer.config.retrieval import RetrievalConfig
from trainer.content.adversarial import Adversary, harden
from trainer.content.augment import l2_penalty
from trainer.data import ItemTable
from trainer.encoders.tuned import LayerwiseAdamW
from trainer.keras import tf
from trainer.retrieval.item_tower import ItemTower
from trainer.strategy import deal, global_sum

_TARGETS = "targets"  # beside the features of a step
_BATCH = 64  # items a step
_HELD_OUT = 0.2  # share of the items that decides when the encoders stop
_MOST_ITEMS = 20_000  # items that the content is fitted on
_MIN_ITEMS = 20  # with fewer the encoders have nothing to show


def fit_content(tower: ItemTower, table: ItemTable, warm: np.ndarray, config: RetrievalConfig) -> dict[str, float]:
    """Fit the content path of a tower whose own vectors are trained; the table is prepared.

    First the linear map in closed form, then the encoders on what it leaves over, for as many epochs as help on items held out (by hash of
    their id): none, where the catalogue is too small for them. warm: int [R], rows with an own vector.
    Returns the mean squared error on held-out items of the linear map alone and of both, and the encoders' epochs. With an adversary,
    errors are halfway to those on what it moves.
    """
    warm = warm[np.linspace(0, len(warm) - 1, min(len(warm), _MOST_ITEMS)).astype(int)]
    targets = tower.own_vectors(table, warm)
    is_held_out = np.array([_share(table.item_ids[row]) < _HELD_OUT for row in warm])
    report = {"linear": float("nan"), "with_encoders": float("nan"), "epochs": 0.0}
    if config.content_epochs and min(is_held_out.sum(), (~is_held_out).sum()) >= _MIN_ITEMS:
        _solve(tower, table, warm[~is_held_out], targets[~is_held_out], config)
        learned = [variable for variable, _ in tower.content_rates]
        before = [variable.numpy() for variable in learned]
        objective = tf.function(_objective(tower, config), reduce_retracing=True)
        errors = [_error(objective, tower, table, warm[is_held_out], targets[is_held_out])]
        step = _step(tower, config)
        for epoch in range(config.content_epochs):
            _epoch(step, tower, table, warm[~is_held_out], targets[~is_held_out], config.seed + epoch)
            errors.append(_error(objective, tower, table, warm[is_held_out], targets[is_held_out]))
            if epoch + 1 - int(np.argmin(errors)) >= config.content_patience:
                break
        for variable, value in zip(learned, before):
            variable.assign(value)
        best = int(np.argmin(errors))
        report = {"linear": errors[0], "with_encoders": errors[best], "epochs": float(best)}
    _solve(tower, table, warm, targets, config)
    if report["epochs"]:
        step = _step(tower, config)
        for epoch in range(int(report["epochs"])):
            _epoch(step, tower, table, warm, targets, config.seed + epoch)
    return report


def _solve(tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray, config: RetrievalConfig) -> None:
    features = _features(tower, table, rows)
    tower.linear.solve(features, targets)
    if tower.tag_head is not None:
        tagged = table.arrays["has_tags"][rows] > 0
        designs = [block.numpy()[tagged].astype(np.float64) for block in tower.without_tags(features)]
        tower.tag_head.solve(designs, tower.tag_head.labels(features["tag_ids"]).numpy()[tagged])
    if config.adversary:
        batches = [np.arange(start, min(start + _BATCH, len(rows))) for start in range(0, len(rows), _BATCH)]
        harden(tower, config.adversary, [(_features(tower, table, rows[part]), targets[part]) for part in batches])


def _objective(tower: ItemTower, config: RetrievalConfig):
    """A function of features, targets and `training` -> [B]: the squared error; in training beside it the cost of the tags told; with an
    adversary halfway to that on what it moves.
    """

    def errors(features, targets, training=False):
        seen = tower.tokens_of(features, training=training)
        squares = tf.reduce_sum((tower.fused(*seen, training=training)[0] - targets) ** 2, -1)
        if not (training and config.tag_objective and tower.tag_head is not None):
            return squares
        logits = tower.tag_logits(*seen, training=training)
        return squares + config.tag_objective * tower.tag_head.cost(logits, seen[0]["tag_ids"], seen[0]["has_tags"])

    if config.adversary is None:
        return errors
    adversary = Adversary(tower, config.adversary, errors)
    return lambda features, targets, training=False: (
        (errors(features, targets, training) + errors(adversary(features, targets), targets, training)) / 2
    )


def _step(tower: ItemTower, config: RetrievalConfig):
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

    return tf.function(lambda batch: strategy.run(replica_step, args=(batch,)), reduce_retracing=True)


def _epoch(step, tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    for start in range(0, len(order), _BATCH):
        chosen = np.sort(order[start : start + _BATCH])
        step(deal({**table.take(rows[chosen], tower.inputs), _TARGETS: targets[chosen]}))


def _error(objective, tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray) -> float:
    parts = [slice(start, start + _BATCH) for start in range(0, len(rows), _BATCH)]
    errors = [objective(_features(tower, table, rows[part]), tf.constant(targets[part])).numpy() for part in parts]
    return float(np.concatenate(errors).mean())


def _features(tower: ItemTower, table: ItemTable, rows: np.ndarray) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in table.take(rows, tower.inputs).items()}


def _share(item_id: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(b"content:" + item_id, digest_size=8).digest(), "big") / 2**64
