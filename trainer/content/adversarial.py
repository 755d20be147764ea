"""Adversarial examples of the content (FGSM and PGD), and a linear map that is robust to them.

B items, T words or tags, W width of a token, V words of the linear map, E columns of it, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.contract import LOG_MEL_CEILING, LOG_MEL_FLOOR
from trainer.config.adversary import AdversaryConfig
from trainer.encoders.audio import AudioEncoder
from trainer.encoders.modality import Modality
from trainer.encoders.tabular import EmbeddingEncoder
from trainer.encoders.text import TagEncoder, TextEncoder
from trainer.encoders.video import VideoEncoder
from trainer.keras import tf
from trainer.towers.item_tower import ItemTower

_LOG_MEL_STEP = (LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255  # natural-log units
_PGD_REACH = 2.5  # radii that the steps together go, as in Madry et al.

Loss = Callable[..., tf.Tensor]


@dataclass(frozen=True)
class Bounds:
    """How far the adversary may move an input."""

    radius: tf.Tensor | float  # of an element
    low: float = -np.inf  # of the moved values, as of real media
    high: float = np.inf


class Adversary:
    """Moves the inputs of a batch of items within the radii of the configuration so that a loss grows.

    Audio is moved in its log-mel, video in its pixels, an embedding in its values. Words and tags are moved in their
    embeddings: those of the encoder (`<name>_shift` float [B, T, W]) and those of the linear map, which are one-hot
    (`<name>_presence` float [B, V]). Statistics are measured anew on the moved inputs. A missing modality stays
    missing.
    Sources: FGSM, Goodfellow et al., 2015; PGD, Madry et al., 2018.
    """

    def __init__(self, tower: ItemTower, config: AdversaryConfig, loss: Loss):
        """loss: a function of features and targets -> float [B], to be raised; differentiable in the features."""
        self.tower, self.config, self.loss = tower, config, loss
        self._slopes = tf.function(self._gradients, reduce_retracing=True)

    def __call__(self, features: Mapping[str, tf.Tensor], targets) -> dict[str, tf.Tensor]:
        """The moved features of a batch of a prepared table; media as float32 on the scale of their bytes."""
        clean, bounds = self._opened(features)
        if self.config.method == "fgsm":
            return self._step(clean, bounds, {name: tf.zeros_like(clean[name]) for name in bounds}, targets, 1.0)
        start = {
            name: clean[name] + tf.random.uniform(tf.shape(clean[name]), -1.0, 1.0) * bound.radius
            for name, bound in bounds.items()
        }
        clipped = {name: tf.clip_by_value(value, bounds[name].low, bounds[name].high) for name, value in start.items()}
        moved = {**clean, **clipped}
        for _ in range(self.config.steps):
            shifts = {name: moved[name] - clean[name] for name in bounds}
            moved = self._step(clean, bounds, shifts, targets, _PGD_REACH / self.config.steps)
        return moved

    def _step(self, clean, bounds, shifts, targets, stride: float):
        """One step of `stride` radii along the sign of the gradient, from the shifts of before."""
        slopes = self._slopes(clean, shifts, targets)
        result = dict(clean)
        for name, bound in bounds.items():
            shift = shifts[name] + stride * bound.radius * tf.sign(slopes[name])
            moved = clean[name] + tf.clip_by_value(shift, -bound.radius, bound.radius)
            result[name] = tf.stop_gradient(tf.clip_by_value(moved, bound.low, bound.high))
        return result

    def _gradients(self, clean, shifts, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(shifts)
            loss = self.loss({**clean, **{name: clean[name] + shift for name, shift in shifts.items()}}, targets)
        return tape.gradient(loss, shifts, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _opened(self, features: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, Bounds]]:
        """The features without derived ones, every input that may be moved as a float, and the bounds of those."""
        derived = {name for modality in self.tower.modalities for name in modality.derived}
        opened = {name: value for name, value in features.items() if name not in derived}
        bounds: dict[str, Bounds] = {}
        for modality in self.tower.modalities:
            encoder, raw = modality.encoder, modality.encoder.inputs[0]
            if isinstance(encoder, (TextEncoder, TagEncoder)):
                bounds |= self._open_words(modality, opened)
            elif isinstance(encoder, AudioEncoder):
                bounds[raw] = Bounds(self.config.audio / _LOG_MEL_STEP, 0.0, 255.0)
            elif isinstance(encoder, VideoEncoder):
                bounds[raw] = Bounds(self.config.video, 0.0, 255.0)
            elif isinstance(encoder, EmbeddingEncoder):
                bounds[raw] = Bounds(self.config.embedding * encoder.standardise.size())
        return {name: tf.cast(value, tf.float32) if name in bounds else value for name, value in opened.items()}, bounds

    def _open_words(self, modality: Modality, opened: dict[str, tf.Tensor]) -> dict[str, Bounds]:
        """Adds shifts of the embeddings of words or tags to the features, as zeros; returns their bounds."""
        embeddings = modality.encoder.vectors.embeddings
        ids, columns = opened[modality.encoder.inputs[0]], self.tower.linear.columns_of(modality.name)
        shift, presence = f"{modality.name}_shift", f"{modality.name}_presence"
        opened[shift] = tf.zeros([*tf.unstack(tf.shape(ids)), embeddings.shape[-1]])
        opened[presence] = tf.zeros([tf.shape(ids)[0], columns])
        return {
            shift: Bounds(self.config.text * tf.stop_gradient(tf.sqrt(tf.reduce_mean(embeddings**2)))),
            presence: Bounds(self.config.text / max(columns, 1) ** 0.5),
        }


ROUNDS = 4  # of the game between the linear map and the adversary
_BATCH = 64  # items whose inputs are moved at once


def harden(
    tower: ItemTower,
    config: AdversaryConfig,
    designs: Sequence[np.ndarray],
    targets: np.ndarray,
    features_of: Callable[[slice], Mapping[str, tf.Tensor]],
) -> None:
    """Solves the linear map again, half on clean items and half on adversarial ones, so that it relies less on what is
    easily moved.

    Each round adds the adversary's answer to the map of the rounds before, and the map is fitted to all of them (Brown,
    fictitious play, 1951). Block weights and penalty stay those of the last `solve`; what is imputed follows from the
    new map, on clean items.
    designs, targets: of R items, as `LinearContent.solve` takes them.
    features_of: the features of a part of these items in a prepared table.
    """

    def error(features, targets):
        return tf.reduce_sum((tower.linear(tower.complete(features)) - targets) ** 2, -1)

    adversary = Adversary(tower, config, error)
    linear = tower.linear
    weights, penalty = linear.chosen

    def columns(design: Sequence[Any]) -> np.ndarray:
        blocks = [np.asarray(block) * weight for block, weight in zip(design, weights)]
        return np.concatenate([*blocks, np.ones((len(blocks[0]), 1))], 1).astype(np.float64)

    scale = np.concatenate([*(np.full(block.shape[1], weight) for block, weight in zip(designs, weights)), [1.0]])
    gram, moment = np.zeros((len(scale), len(scale))), np.zeros((len(scale), targets.shape[1]))
    parts = [slice(start, start + _BATCH) for start in range(0, len(targets), _BATCH)]
    for part in parts:
        clean = columns([block[part] for block in designs])
        gram += clean.T @ clean
        moment += clean.T @ targets[part]
    moved_gram, moved_moment = np.zeros_like(gram), np.zeros_like(moment)
    for done in range(1, ROUNDS + 1):
        for part in parts:
            features = adversary(features_of(part), tf.constant(targets[part]))
            moved = columns(linear.design(tower.complete(features)))
            moved_gram += moved.T @ moved
            moved_moment += moved.T @ targets[part]
        both = (gram + moved_gram / done) / 2 + penalty * np.eye(len(gram))
        kernel = np.linalg.solve(both, (moment + moved_moment / done) / 2)
        linear.kernel.assign((kernel * scale[:, None]).astype(np.float32))
    linear.impute(designs)
