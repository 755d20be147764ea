"""What items are, as far as it tells where their vectors start: the leading directions of their content.

R items, E columns of all blocks, K directions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainer.data import ItemTable
from trainer.keras import tf
from trainer.towers import ItemTower

_AT_ONCE = 256  # items
_SAMPLE = 2_000  # items on which the directions are measured


def content_directions(tower: ItemTower, table: ItemTable, rows: np.ndarray, count: int) -> np.ndarray:
    """The items' content, blocks of the linear map that count alike, on its leading directions from the mean item: unit vectors, cut short.

    tower: has prepared the table. rows: int [R]. Returns float32 [R, K], K = `count` or fewer; no column where nothing is known.
    """
    if not tower.encoders:
        return np.zeros((len(rows), 0), np.float32)
    sample = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int))]
    measured = np.concatenate(list(_columns(tower, table, sample)))
    mean = measured.mean(0)
    _, values, directions = np.linalg.svd(_from(mean, measured), full_matrices=False)
    directions = directions[:count][values[:count] > 1e-6]
    return np.concatenate([_from(mean, columns) @ directions.T for columns in _columns(tower, table, rows)])


def _columns(tower: ItemTower, table: ItemTable, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The blocks of the linear map without their flags, each of unit length, together too: float32 [_AT_ONCE, E]."""
    for start in range(0, len(rows), _AT_ONCE):
        taken = table.take(rows[start : start + _AT_ONCE], tower.inputs)
        design = tower.linear.design(tower.complete({name: tf.constant(array) for name, array in taken.items()}))
        yield np.concatenate([_unit(block[:, :-1].numpy()) for block in design], 1)


def _from(mean: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Unit vectors from the mean item; an item of which nothing is known stays 0."""
    return _unit((columns - mean) * columns.any(1, keepdims=True))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
