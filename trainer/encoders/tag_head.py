"""Predicts an item's tags from its other content.

B items, C tags, G tag slots of an item, E columns of the linear map, W width of a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.encoders.ridge import fit_ridge
from trainer.keras import tf

MOST_TAGS = 256  # the most frequent ones of the items that it is fitted on
MIN_ITEMS = 5  # that a tag must be on
FIRST_TAG = 2  # ids below are absent and unknown
_NEWTON_STEPS = 25


class TagHead(tf.keras.layers.Layer):
    """A multi-label classifier of tags on the linear map's columns and the fused token, both without the item's own
    tags.

    The columns' part is a ridge regression in closed form, its leave-one-out predictions calibrated to probabilities by
    a slope and an intercept that all tags share (Platt, 1999). The token's part is learned with the encoders, whose
    auxiliary objective it is.
    """

    def __init__(self, tag_ids: np.ndarray, num_columns: int, **kwargs):
        """tag_ids: int [C], as `frequent_tags` gives them."""
        super().__init__(**kwargs)
        self.tag_ids = tf.constant(tag_ids, tf.int64)
        self.kernel = self.add_weight("kernel", [num_columns, len(tag_ids)], initializer="zeros", trainable=False)
        self.bias = self.add_weight("bias", [len(tag_ids)], initializer="zeros", trainable=False)
        self.project = tf.keras.layers.Dense(len(tag_ids), use_bias=False, kernel_initializer="zeros")

    def call(self, columns, pooled=None):
        """The logits of the tags: float [B, C].

        columns: the blocks, float [B, E_m] each.
        pooled: float [B, W], the fused token; None leaves its part out.
        """
        logits = tf.concat(columns, 1) @ self.kernel + self.bias
        return logits if pooled is None else logits + self.project(pooled)

    def labels(self, ids):
        """Multi-hot labels: float32 [B, C]. ids: int64 [B, G], an item's tags."""
        return tf.cast(tf.reduce_any(ids[:, :, None] == self.tag_ids, 1), tf.float32)

    def loss(self, logits, ids, has_tags):
        """Mean binary cross-entropy of each item, 0 where it has no tags to learn from: float [B]."""
        entropy = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(self.labels(ids), logits), 1)
        return entropy * tf.cast(has_tags > 0, tf.float32)

    def solve(self, designs: Sequence[np.ndarray], labels: np.ndarray) -> None:
        """Fits the columns' part; nothing changes where there are no items.

        designs: the blocks of R items that have tags, float [R, E_m] each.
        labels: float [R, C].
        """
        if not len(labels):
            return
        fit = fit_ridge(designs, labels, with_left_out=True)
        assert fit.left_out is not None
        prior = (labels.sum(0) + 0.5) / (len(labels) + 1)
        deviation, offset = np.sqrt(prior * (1 - prior)), np.log(prior / (1 - prior))
        slope, intercept = calibrate((fit.left_out - prior) / deviation, labels, offset)
        self.kernel.assign((np.concatenate(fit.kernels) * slope / deviation).astype(np.float32))
        self.bias.assign((offset + intercept + slope * (fit.bias - prior) / deviation).astype(np.float32))


def frequent_tags(ids: np.ndarray) -> np.ndarray:
    """The tags frequent enough to be predicted, most frequent first: int64 [C]. ids: int [R, G], of items to fit on."""
    found, counts = np.unique(
        np.concatenate([np.unique(row) for row in ids]) if len(ids) else np.zeros(0, np.int64), return_counts=True
    )
    worth = (found >= FIRST_TAG) & (counts >= MIN_ITEMS)
    order = np.argsort(-counts[worth], kind="stable")
    return found[worth][order][:MOST_TAGS].astype(np.int64)


def calibrate(scores: np.ndarray, labels: np.ndarray, offset: np.ndarray) -> tuple[float, float]:
    """Slope (0 or more) and intercept of a logistic regression sigmoid(offset + intercept + slope * score), by Newton's
    method.

    scores, labels: float [R, C].
    offset: float [C].
    """
    columns = np.stack([np.ravel(scores), np.ones(scores.size)], 1)
    wanted, base = np.ravel(labels).astype(np.float64), np.ravel(np.broadcast_to(offset, scores.shape))
    found = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(base + columns @ found, -30, 30)))
        gradient = columns.T @ (wanted - probability) - 1e-3 * found
        curvature = (columns * (probability * (1 - probability))[:, None]).T @ columns + 1e-3 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        found += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(max(found[0], 0.0)), float(found[1])
