"""Initialisation from content: the principal components of the items' features, each block weighted by what it
explains.

R items, E columns of all blocks, D dimensions, K components.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trainer.data import ItemTable
from trainer.encoders.ridge import explained
from trainer.keras import tf
from trainer.towers.item_tower import ItemTower

_AT_ONCE = 256  # items
_SAMPLE = 2_000  # items on which weights and directions are measured
_LEAST = 0.02  # of each block, beside the share of the variance that it explains


def content_directions(tower: ItemTower, table: ItemTable, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The items' content on its principal components: unit vectors of the columns, projected.

    Each block of the linear map is weighted by the share of the variance of the collaborative embeddings that it alone
    explains.
    tower: has encoders, and has prepared the table.
    rows: int [R], of the table.
    starts: float [R, D], the items' embeddings by interactions alone.
    Returns float32 [R, K], K = D or fewer; no column where nothing is known.
    """
    sample = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int))
    blocks = [np.concatenate(parts) for parts in zip(*_designs(tower, table, rows[sample]))]
    weights = [_LEAST + explained(block, starts[sample]) for block in blocks]
    measured = _joined(blocks, weights)
    mean = measured.mean(0)
    _, values, directions = np.linalg.svd(_from(mean, measured), full_matrices=False)
    directions = directions[: starts.shape[1]][values[: starts.shape[1]] > 1e-6]
    parts = _designs(tower, table, rows)
    return np.concatenate([_from(mean, _joined(blocks, weights)) @ directions.T for blocks in parts])


def _designs(tower: ItemTower, table: ItemTable, rows: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The blocks of the linear map, their flags last: float32 [_AT_ONCE, E_m] each."""
    for start in range(0, len(rows), _AT_ONCE):
        taken = table.take(rows[start : start + _AT_ONCE], tower.inputs)
        features = tower.complete({name: tf.constant(array) for name, array in taken.items()})
        yield [block.numpy() for block in tower.linear.design(features)]


def _joined(blocks: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The blocks without their flags, each scaled to the length of its weight: float [R, E]."""
    return np.concatenate([_unit(block[:, :-1]) * weight for block, weight in zip(blocks, weights)], 1)


def _from(mean: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Unit vectors from the mean item; an item without any column stays 0."""
    return _unit((columns - mean) * columns.any(1, keepdims=True))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
