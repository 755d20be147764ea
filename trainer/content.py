"""Teaches the content to stand where the listeners put an item, so that an item nobody has played is placed by what it is.

R items with a vector of their own, D dimensions.
"""

from __future__ import annotations

import hashlib

import numpy as np

from trainer.config import RetrievalConfig
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.towers import ItemTower

_BATCH = 64  # items a step
_HELD_OUT = 0.2  # share of the items that decides when the encoders stop
_MOST_ITEMS = 20_000  # items that the content is fitted on
_MIN_ITEMS = 20  # with fewer the encoders have nothing to show


def fit_content(tower: ItemTower, table: ItemTable, warm: np.ndarray, config: RetrievalConfig) -> dict[str, float]:
    """Fit the content path of a tower whose own vectors are trained; the table is prepared.

    First the linear map in closed form, then the encoders on what it leaves over, for as many epochs as help on items held out (by hash of
    their id): none, where the catalogue is too small for them. warm: int [R], rows with an own vector.
    Returns the mean squared error on held-out items of the linear map alone and of both, and the encoders' epochs.
    """
    warm = warm[np.linspace(0, len(warm) - 1, min(len(warm), _MOST_ITEMS)).astype(int)]
    targets = tower.own_vectors(table, warm)
    is_held_out = np.array([_share(table.item_ids[row]) < _HELD_OUT for row in warm])
    report = {"linear": float("nan"), "with_encoders": float("nan"), "epochs": 0.0}
    if config.content_epochs and min(is_held_out.sum(), (~is_held_out).sum()) >= _MIN_ITEMS:
        _solve(tower, table, warm[~is_held_out], targets[~is_held_out])
        before = [variable.numpy() for variable in tower.content_weights]
        errors = [_error(tower, table, warm[is_held_out], targets[is_held_out])]
        step = _step(tower, config)
        for epoch in range(config.content_epochs):
            _epoch(step, tower, table, warm[~is_held_out], targets[~is_held_out], config.seed + epoch)
            errors.append(_error(tower, table, warm[is_held_out], targets[is_held_out]))
            if epoch + 1 - int(np.argmin(errors)) >= config.content_patience:
                break
        for variable, value in zip(tower.content_weights, before):
            variable.assign(value)
        best = int(np.argmin(errors))
        report = {"linear": errors[0], "with_encoders": errors[best], "epochs": float(best)}
    _solve(tower, table, warm, targets)
    if report["epochs"]:
        step = _step(tower, config)
        for epoch in range(int(report["epochs"])):
            _epoch(step, tower, table, warm, targets, config.seed + epoch)
    return report


def _solve(tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray) -> None:
    tower.linear.solve(_features(tower, table, rows), targets)


def _step(tower: ItemTower, config: RetrievalConfig):
    optimizer = tf.keras.optimizers.AdamW(config.content_learning_rate, weight_decay=config.weight_decay)
    optimizer.build(tower.content_weights)

    @tf.function(reduce_retracing=True)
    def step(features, targets):
        with tf.GradientTape() as tape:
            raw, _ = tower.raw_content(features, training=True)
            loss = tf.reduce_mean(tf.reduce_sum((raw - targets) ** 2, -1))
        gradients = tape.gradient(loss, tower.content_weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(zip(gradients, tower.content_weights))

    return step


def _epoch(step, tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    for start in range(0, len(order), _BATCH):
        chosen = np.sort(order[start : start + _BATCH])
        step(_features(tower, table, rows[chosen]), tf.constant(targets[chosen]))


def _error(tower: ItemTower, table: ItemTable, rows: np.ndarray, targets: np.ndarray) -> float:
    parts = [slice(start, start + _BATCH) for start in range(0, len(rows), _BATCH)]
    raw = np.concatenate([tower.raw_content(_features(tower, table, rows[part]), training=False)[0].numpy() for part in parts])
    return float(((raw - targets) ** 2).sum(-1).mean())


def _features(tower: ItemTower, table: ItemTable, rows: np.ndarray) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in table.take(rows, tower.inputs).items()}


def _share(item_id: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(b"content:" + item_id, digest_size=8).digest(), "big") / 2**64
