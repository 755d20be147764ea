"""The linear map from content features to item vectors: the base of the content vector, fitted in closed form.

B items, E columns of all blocks, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.encoders.blocks import STANDARDISED_LIMIT
from trainer.encoders.modality import Block
from trainer.encoders.ridge import fit_ridge
from trainer.keras import tf

MOST_IDS = 2048  # of a vocabulary: its most frequent entries; rarer ones are left to the encoders
_ROWS_AT_ONCE = 4096  # items whose columns are measured at once
MIN_FOR_IMPUTATION = 20  # items with a block and items without it, from which on the block is imputed


class LinearContent(tf.keras.layers.Layer):
    """A ridge regression on blocks of columns, each standardised and of one length: features -> float [B, D].

    A missing block is 0, and a column says whether the block is there, so that missing is not average; what the block
    would add is imputed from the other blocks. `<block>_presence` float [B, V], where the features hold it, is added to
    the ids of the block that an item has (`trainer.content.adversarial`).
    """

    def __init__(self, blocks: Sequence[Block], dim: int, **kwargs):
        super().__init__(**kwargs)
        self.blocks, self.dim = tuple(blocks), dim
        self.mean: dict[str, tf.Variable] = {}  # block -> float [E_m], of its columns
        self.scale: dict[str, tf.Variable] = {}  # block -> float [E_m], what they are multiplied by
        self.length: dict[str, tf.Variable] = {}  # block -> float [], what the block is divided by
        self.imputed: dict[str, tf.Variable] = {}  # block -> float [E, D], its part for items without it
        self.chosen: tuple[list[float], float] = (
            [1.0] * len(self.blocks),
            1.0,
        )  # weight of each block and penalty of the last `solve`

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features that it reads."""
        names = [name for block in self.blocks for name in (block.feature, block.flag) if name]
        return tuple(dict.fromkeys(names))

    def columns_of(self, block: str) -> int:
        """How many columns a block has beside its flag."""
        return int(self.mean[block].shape[0])

    def fit_scale(self, features: Mapping[str, np.ndarray]) -> None:
        """Measures mean and deviation of every column on the items that have the block, and makes the weights."""
        there = {}
        for block in self.blocks:
            there[block.name], mean, deviation, largest = self._spread(block, features)
            varies = deviation > 1e-6 * np.maximum(largest, 1e-3)
            length = np.sqrt(max(int(varies.sum()), 1))
            scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
            if block.is_direction:
                length, scale = 1.0, varies.astype(np.float64)
            self.mean[block.name] = self._constant(f"{block.name}_mean", mean)
            self.scale[block.name] = self._constant(f"{block.name}_scale", scale)
            self.length[block.name] = self._constant(f"{block.name}_length", np.array(length))
        columns = sum(self.columns_of(block.name) + 1 for block in self.blocks) + 1
        shape, zeros = (columns, self.dim), {"initializer": "zeros", "trainable": False}
        self.kernel = self.add_weight("kernel", shape, **zeros)
        for name, flags in there.items():
            if len(self.blocks) > 1 and min(flags.sum(), (~flags).sum()) >= MIN_FOR_IMPUTATION:
                self.imputed[name] = self.add_weight(f"{name}_imputed", shape, **zeros)

    def design(self, features) -> list[tf.Tensor]:
        """The standardised columns of each block, float [B, E_m], its flag last."""
        columns = []
        for block in self.blocks:
            raw, there = self._raw(block, features)
            length = self.length[block.name]
            values = (raw - self.mean[block.name]) * self.scale[block.name] / length
            values = (
                tf.math.l2_normalize(values, -1)
                if block.is_direction
                else tf.clip_by_value(values, -STANDARDISED_LIMIT / length, STANDARDISED_LIMIT / length)
            )
            columns.append(tf.concat([values, tf.ones_like(values[:, :1])], 1) * there[:, None])
        return columns

    def designs(self, features) -> list[np.ndarray]:
        """The same of many items, some at a time: float32 [R, E_m]."""
        parts = [[block.numpy() for block in self.design(rows)] for rows in _in_parts(features)]
        return [np.concatenate(blocks) for blocks in zip(*parts)]

    def call(self, features):
        """The part of the content vectors that is linear in the features of a prepared table: float [B, D]."""
        columns = self.design(features)
        full = tf.concat([*columns, tf.ones_like(columns[0][:, :1])], 1)
        vectors = full @ self.kernel
        for name, kernel in self.imputed.items():
            vectors += self._lacks(name, columns) * (full @ kernel)
        return vectors

    def parts(self, features):
        """What each block adds to `call`, the intercept last: float [B, number of blocks + 1, D], whose sum is `call`.

        What is imputed for a missing block counts for the blocks that it is imputed from.
        """
        columns = self.design(features)
        columns.append(tf.ones_like(columns[0][:, :1]))
        sizes = [int(block.shape[1]) for block in columns]
        parts = [block @ kernel for block, kernel in zip(columns, tf.split(self.kernel, sizes))]
        for name, imputed in self.imputed.items():
            lacks = self._lacks(name, columns)
            parts = [
                part + lacks * (block @ kernel) for part, block, kernel in zip(parts, columns, tf.split(imputed, sizes))
            ]
        return tf.stack(parts, 1)

    def solve(self, designs: Sequence[np.ndarray], targets: np.ndarray) -> None:
        """Fits the map by ridge regression, and what it imputes.

        designs: of R items, as `designs` gives them.
        targets: float [R, D].
        """
        fit = fit_ridge(designs, targets)
        self.chosen = fit.weights, fit.penalty
        self.kernel.assign(np.concatenate([*fit.kernels, fit.bias[None]]).astype(np.float32))
        self.impute(designs)

    def impute(self, designs: Sequence[np.ndarray]) -> None:
        """Fits for each imputed block what the map as it is adds where the block is there, from the other blocks.

        designs: as `solve` takes them.
        """
        edges = np.cumsum([block.shape[1] for block in designs])
        kernels = np.split(self.kernel.numpy().astype(np.float64), edges)
        for name, imputed in self.imputed.items():
            at = self._place(name)
            having = designs[at][:, -1] > 0
            expected = np.zeros(imputed.shape, np.float32)
            if having.sum() >= MIN_FOR_IMPUTATION:
                others = [
                    np.zeros_like(block[having]) if place == at else block[having]
                    for place, block in enumerate(designs)
                ]
                found = fit_ridge(others, designs[at][having] @ kernels[at])
                expected = np.concatenate([*found.kernels, found.bias[None]]).astype(np.float32)
            imputed.assign(expected)

    def _spread(self, block: Block, features: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Which items have a block, bool [R], and mean, deviation and largest size of its columns on them, float64
        [E_m] each; some rows at a time, since ids are a column each."""

        def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for rows in _in_parts(features):
                raw, flags = (tensor.numpy() for tensor in self._raw(block, rows))
                yield raw[flags > 0].astype(np.float64), flags > 0

        flags = np.concatenate([part for _, part in parts()])
        count = max(int(flags.sum()), 1)
        mean = np.sum([rows.sum(0) for rows, _ in parts()], 0) / count
        deviation = np.sqrt(np.sum([((rows - mean) ** 2).sum(0) for rows, _ in parts()], 0) / count)
        return flags, mean, deviation, np.max([np.abs(rows).max(0, initial=0) for rows, _ in parts()], 0)

    def _constant(self, name: str, value: np.ndarray) -> tf.Variable:
        """A weight that gradients do not change."""
        weight = self.add_weight(name, value.shape, trainable=False)
        weight.assign(value.astype(np.float32))
        return weight

    def _place(self, block: str) -> int:
        return [one.name for one in self.blocks].index(block)

    def _lacks(self, block: str, columns: Sequence[tf.Tensor]):
        """1 where the block is missing, else 0: float [B, 1]. Its last column is its flag."""
        return 1.0 - columns[self._place(block)][:, -1:]

    def _raw(self, block: Block, features):
        """A block's columns before they are standardised, float [B, E_m], and 1 where an item has it, float [B]."""
        values = tf.convert_to_tensor(features[block.feature])
        if block.vocabulary_size:
            ids = values[:, None] if values.shape.rank == 1 else values
            size = min(block.vocabulary_size, MOST_IDS)  # ids beyond are nowhere
            raw = _multi_hot(ids, size)[:, 1:]  # 0 is no id
            raw += features.get(f"{block.name}_presence", 0.0)
            there = tf.cast(tf.reduce_any(ids > 0, 1), tf.float32)
        else:
            raw = tf.cast(values, tf.float32)
            raw = tf.math.l2_normalize(raw, -1) if block.is_direction else raw
            there = tf.ones_like(raw[:, 0])
        return raw, there if block.flag is None else tf.cast(tf.convert_to_tensor(features[block.flag]) > 0, tf.float32)


def _in_parts(features: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The features of some items at a time; of no items once."""
    num_items = max((len(array) for array in features.values()), default=0)
    for start in range(0, max(num_items, 1), _ROWS_AT_ONCE):
        yield {name: array[start : start + _ROWS_AT_ONCE] for name, array in features.items()}


def _multi_hot(ids, size: int):
    """1 in the columns of the ids that a row has, ids from `size` on nowhere: int [B, T] -> float32 [B, size]."""
    found = tf.math.bincount(ids, minlength=size, maxlength=size, dtype=tf.float32, axis=-1, binary_output=True)
    return tf.ensure_shape(found, [None, size])
