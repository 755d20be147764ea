"""A linear map of what is plainly there in the content: the start of the content vector, fitted in closed form.

B items, E columns of all blocks, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainer.encoders.blocks import STANDARDISED_LIMIT
from trainer.keras import tf

MOST_IDS = 1024  # of a vocabulary: its most frequent entries; rarer ones are left to the encoders


class LinearContent(tf.keras.layers.Layer):
    """Blocks of columns, one a modality, each standardised and of one length -> [B, D].

    A block is a media's statistics, an embedding, numbers, or which of a vocabulary's ids an item has. What is missing is 0, and a column
    says whether the block is there, so missing is not average. `<block>_presence` [B, V], where it is given, is added to which ids there
    are (`trainer.adversarial`).
    """

    def __init__(self, sources: Mapping[str, tuple[str, int]], flags: Mapping[str, str | None], dim: int, **kwargs):
        """sources: block -> (feature, 0 for numbers or its vocabulary's size). flags: block -> its has_ feature, None = always there."""
        super().__init__(**kwargs)
        self.sources, self.flags, self.dim = dict(sources), dict(flags), dim
        self.chosen: tuple[list[float], float] = ([1.0] * len(sources), 1.0)  # weight of each block and penalty of the last `solve`

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
            for kind, value in (("mean", rows.mean(0)), ("scale", scale), ("length", np.array(length))):
                setattr(self, f"{name}_{kind}", self.add_weight(f"{name}_{kind}", value.shape, trainable=False))
                getattr(self, f"{name}_{kind}").assign(value.astype(np.float32))
        columns = sum(int(getattr(self, f"{name}_mean").shape[0]) + 1 for name in self.blocks) + 1
        self.kernel = self.add_weight("kernel", [columns, self.dim], initializer="zeros", trainable=False)

    def design(self, features) -> list[tf.Tensor]:
        """The columns of each block [B, E_m], its flag last."""
        columns = []
        for name in self.blocks:
            raw, there = self._raw(name, features)
            limit = STANDARDISED_LIMIT
            mean, scale, length = (getattr(self, f"{name}_{kind}") for kind in ("mean", "scale", "length"))
            block = tf.clip_by_value((raw - mean) * scale, -limit, limit) / length
            columns.append(tf.concat([block, tf.ones_like(block[:, :1])], 1) * there[:, None])
        return columns

    def call(self, features):
        """features of a prepared table -> [B, D]."""
        columns = self.design(features)
        return tf.concat([*columns, tf.ones_like(columns[0][:, :1])], 1) @ self.kernel

    def solve(self, features, targets: np.ndarray) -> None:
        """Set the map to the ridge regression of `targets` float [R, D] on these items' columns (Hoerl & Kennard, 1970).

        Strength of the penalty and weight of each block are chosen by the error on the item left out (Allen's PRESS, 1974).
        """
        designs = [block.numpy().astype(np.float64) for block in self.design(features)]
        weights, penalty = self.chosen = choose_ridge(designs, targets)
        full = np.concatenate([*(block * weight for block, weight in zip(designs, weights)), np.ones((len(targets), 1))], 1)
        kernel = full.T @ np.linalg.solve(full @ full.T + penalty * np.eye(len(full)), targets)
        scales = np.concatenate([*(np.full(block.shape[1], weight) for block, weight in zip(designs, weights)), [1.0]])
        self.kernel.assign((kernel * scales[:, None]).astype(np.float32))

    def _raw(self, name: str, features):
        feature, size = self.sources[name]
        values = tf.convert_to_tensor(features[feature])
        if size:
            ids = values[:, None] if values.shape.rank == 1 else values
            held = tf.reduce_max(tf.one_hot(ids, min(size, MOST_IDS)), 1)  # [B, V]; ids beyond the most frequent are nowhere
            raw = held[:, 1:] + features.get(f"{name}_presence", 0.0)  # 0 is no id
            there = tf.cast(tf.reduce_any(ids > 0, 1), tf.float32)
        else:
            raw = tf.cast(values, tf.float32)
            there = tf.ones_like(raw[:, 0])
        flag = self.flags[name]
        return raw, there if flag is None else tf.cast(tf.convert_to_tensor(features[flag]) > 0, tf.float32)


PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
SEARCHED_ROWS = 800  # items that the search looks at
SWEEPS = 2


def choose_ridge(designs: Sequence[np.ndarray], targets: np.ndarray) -> tuple[list[float], float]:
    """Weight of each block and penalty with the least error on the item left out, by coordinate search.

    designs: [R, E_m] each; targets: [R, D]. Returns the weights and the penalty.
    """
    rows = np.linspace(0, len(targets) - 1, min(len(targets), SEARCHED_ROWS)).astype(int)
    grams = [block[rows] @ block[rows].T for block in designs]
    targets = targets[rows].astype(np.float64)

    def error(weights: Sequence[float]) -> tuple[float, float]:
        gram = sum((weight**2 * block for weight, block in zip(weights, grams)), np.ones((len(rows), len(rows))))
        values, vectors = np.linalg.eigh(gram)
        projected = vectors.T @ targets
        best = (np.inf, PENALTIES[0])
        for penalty in PENALTIES:
            inverse = 1 / (values + penalty)
            residual = (vectors * inverse) @ projected / ((vectors**2) @ inverse)[:, None]
            best = min(best, (float((residual**2).mean()), penalty))
        return best

    weights = [1.0] * len(designs)
    least = error(weights)
    for _ in range(SWEEPS):
        before = least
        for block in range(len(designs)):
            for weight in WEIGHTS:
                tried = [*weights[:block], weight, *weights[block + 1 :]]
                if any(tried) and (found := error(tried)) < least:
                    least, weights = found, tried
        if least == before:
            break
    return weights, least[1]
