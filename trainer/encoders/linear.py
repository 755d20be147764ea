"""A linear map of what is plainly there in the content: the start of the content vector, fitted in closed form.

B items, E columns of all blocks, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from trainer.encoders.blocks import STANDARDISED_LIMIT
from trainer.encoders.ridge import fit_ridge
from trainer.keras import tf

MOST_IDS = 2048  # of a vocabulary: its most frequent entries; rarer ones are left to the encoders
MIN_FOR_STAND_IN = 20  # items with a block and items without it, from which on something stands in for it


class LinearContent(tf.keras.layers.Layer):
    """Blocks of columns, one a modality, each standardised and of one length -> [B, D].

    A block is a media's statistics, an embedding, numbers, or which of a vocabulary's ids an item has. What is missing is 0, and a column
    says whether the block is there, so missing is not average: a stand-in says what the other blocks let expect of it.
    `<block>_presence` [B, V], where it is given, is added to which ids there are (`trainer.content.adversarial`).
    """

    def __init__(
        self,
        sources: Mapping[str, tuple[str, int]],
        flags: Mapping[str, str | None],
        directions: Collection[str],
        dim: int,
        **kwargs,
    ):
        """sources: block -> (feature, 0 for numbers or its vocabulary's size). flags: block -> its has_ feature, None = always there.
        directions: blocks of which only the direction counts, from the mean of all directions.
        """
        super().__init__(**kwargs)
        self.sources, self.flags, self.directions, self.dim = dict(sources), dict(flags), frozenset(directions), dim
        self.stand_ins: dict[str, tf.Variable] = {}  # block -> [E, D], for items without it
        self.chosen: tuple[list[float], float] = (
            [1.0] * len(sources),
            1.0,
        )  # weight of each block and penalty of the last `solve`

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks, in the order of their columns."""
        return tuple(self.sources)

    def columns_of(self, block: str) -> int:
        """How many columns a block has beside its flag."""
        return int(getattr(self, f"{block}_mean").shape[0])

    def fit_scale(self, features: Mapping[str, np.ndarray]) -> None:
        """Measure mean and deviation of every column on the items that have the block."""
        for name in self.blocks:
            raw, there = (tensor.numpy() for tensor in self._raw(name, features))
            rows = raw[there > 0].astype(np.float64) if (there > 0).any() else np.zeros((1, raw.shape[1]))
            deviation = rows.std(0)
            varies = deviation > 1e-6 * np.maximum(np.abs(rows).max(0), 1e-3)
            length = np.sqrt(max(int(varies.sum()), 1))
            scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
            if name in self.directions:
                length, scale = 1.0, varies.astype(np.float64)
            for kind, value in (("mean", rows.mean(0)), ("scale", scale), ("length", np.array(length))):
                setattr(self, f"{name}_{kind}", self.add_weight(f"{name}_{kind}", value.shape, trainable=False))
                getattr(self, f"{name}_{kind}").assign(value.astype(np.float32))
        columns = sum(self.columns_of(name) + 1 for name in self.blocks) + 1
        self.kernel = self.add_weight("kernel", [columns, self.dim], initializer="zeros", trainable=False)
        for name in self.blocks:
            there = self._raw(name, features)[1].numpy() > 0
            if len(self.blocks) > 1 and min(there.sum(), (~there).sum()) >= MIN_FOR_STAND_IN:
                self.stand_ins[name] = self.add_weight(
                    f"{name}_stand_in", [columns, self.dim], initializer="zeros", trainable=False
                )

    def design(self, features) -> list[tf.Tensor]:
        """The columns of each block [B, E_m], its flag last."""
        columns = []
        for name in self.blocks:
            raw, there = self._raw(name, features)
            limit = STANDARDISED_LIMIT
            mean, scale, length = (getattr(self, f"{name}_{kind}") for kind in ("mean", "scale", "length"))
            block = (raw - mean) * scale / length
            block = (
                tf.math.l2_normalize(block, -1)
                if name in self.directions
                else tf.clip_by_value(block, -limit / length, limit / length)
            )
            columns.append(tf.concat([block, tf.ones_like(block[:, :1])], 1) * there[:, None])
        return columns

    def call(self, features):
        """features of a prepared table -> [B, D]."""
        columns = self.design(features)
        full = tf.concat([*columns, tf.ones_like(columns[0][:, :1])], 1)
        vectors = full @ self.kernel
        for name, stand_in in self.stand_ins.items():
            vectors += self._lacks(name, columns) * (full @ stand_in)
        return vectors

    def parts(self, features):
        """What each block adds to `call`, the same for all items last: [B, number of blocks + 1, D], which add up to it.

        What stands in for a missing block counts for the blocks that it is taken from.
        """
        columns = self.design(features)
        columns.append(tf.ones_like(columns[0][:, :1]))
        sizes = [int(block.shape[1]) for block in columns]
        parts = [block @ kernel for block, kernel in zip(columns, tf.split(self.kernel, sizes))]
        for name, stand_in in self.stand_ins.items():
            lacks = self._lacks(name, columns)
            parts = [
                part + lacks * (block @ kernel)
                for part, block, kernel in zip(parts, columns, tf.split(stand_in, sizes))
            ]
        return tf.stack(parts, 1)

    def solve(self, features, targets: np.ndarray) -> None:
        """Set the map to the ridge regression of `targets` float [R, D] on these items' columns, then the stand-ins: what a block adds for
        the items that have it, from their other blocks.
        """
        designs = [block.numpy().astype(np.float64) for block in self.design(features)]
        fit = fit_ridge(designs, targets)
        self.chosen = fit.weights, fit.penalty
        self.kernel.assign(np.concatenate([*fit.kernels, fit.bias[None]]).astype(np.float32))
        for name, stand_in in self.stand_ins.items():
            at = self.blocks.index(name)
            having = designs[at][:, -1] > 0
            expected = np.zeros(stand_in.shape, np.float32)
            if having.sum() >= MIN_FOR_STAND_IN:
                others = [
                    np.zeros_like(block[having]) if place == at else block[having]
                    for place, block in enumerate(designs)
                ]
                found = fit_ridge(others, designs[at][having] @ fit.kernels[at])
                expected = np.concatenate([*found.kernels, found.bias[None]]).astype(np.float32)
            stand_in.assign(expected)

    def _lacks(self, name: str, columns: Sequence[tf.Tensor]):
        """1 where the block is missing, else 0: [B, 1]. Its last column is its flag."""
        return 1.0 - columns[self.blocks.index(name)][:, -1:]

    def _raw(self, name: str, features):
        feature, size = self.sources[name]
        values = tf.convert_to_tensor(features[feature])
        if size:
            ids = values[:, None] if values.shape.rank == 1 else values
            held = tf.reduce_max(
                tf.one_hot(ids, min(size, MOST_IDS)), 1
            )  # [B, V]; ids beyond the most frequent are nowhere
            raw = held[:, 1:] + features.get(f"{name}_presence", 0.0)  # 0 is no id
            there = tf.cast(tf.reduce_any(ids > 0, 1), tf.float32)
        else:
            raw = tf.cast(values, tf.float32)
            raw = tf.math.l2_normalize(raw, -1) if name in self.directions else raw
            there = tf.ones_like(raw[:, 0])
        flag = self.flags[name]
        return raw, there if flag is None else tf.cast(tf.convert_to_tensor(features[flag]) > 0, tf.float32)
