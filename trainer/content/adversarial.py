"""Inputs of the content moved a little, so that an item's vector goes as far as it can from where it belongs: FGSM and PGD.

B items, T words or tags, W width, V words of the linear map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.contract import LOG_MEL_CEILING, LOG_MEL_FLOOR
from trainer.config.retrieval import AdversaryConfig
from trainer.keras import tf
from trainer.retrieval.item_tower import ItemTower

_LOG_MEL_STEP = (LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255  # natural-log units
_IDS = {"text": "text_tokens", "tags": "tag_ids"}
_DERIVED = ("_statistics", "_pretrained")  # features that are measured on others
_PGD_REACH = 2.5  # the steps together go so many radii far, as Madry et al. do

Loss = Callable[..., tf.Tensor]


@dataclass(frozen=True)
class Tap:
    """An input that the adversary may move: by at most `radius` an element, within `low` and `high`, which are those of real media."""

    radius: tf.Tensor | float
    low: float = -np.inf
    high: float = np.inf


class Adversary:
    """Moves a batch of items within the radii of the configuration so that a loss grows; what an item lacks stays missing.

    Audio is moved in its log-mel, video in its pixels, a given embedding in its values, words and tags in their vectors: those of the
    encoder (`<name>_shift` [B, T, W]) and those of the linear map, where a word's vector is its row of the unit matrix (`<name>_presence`
    [B, V]). Statistics are measured anew on what was moved, so the attack goes through whatever the tower is.
    Sources: FGSM, Goodfellow et al., 2015; PGD, Madry et al., 2018.
    """

    def __init__(self, tower: ItemTower, config: AdversaryConfig, loss: Loss):
        """loss: a function of features and targets -> what is to be raised of each item, float [B], differentiable in the features."""
        self.tower, self.config, self.loss = tower, config, loss
        self._slopes = tf.function(self._gradients, reduce_retracing=True)

    def __call__(self, features: Mapping[str, tf.Tensor], targets) -> dict[str, tf.Tensor]:
        """The features of a prepared table, batched, as an attacker leaves them; media as float32 on the scale of their bytes."""
        clean, taps = self._opened(features)
        if self.config.method == "fgsm":
            return self._moved(clean, taps, {name: tf.zeros_like(clean[name]) for name in taps}, targets, 1.0)
        start = {
            name: clean[name] + tf.random.uniform(tf.shape(clean[name]), -1.0, 1.0) * tap.radius
            for name, tap in taps.items()
        }
        moved = {
            **clean,
            **{name: tf.clip_by_value(value, taps[name].low, taps[name].high) for name, value in start.items()},
        }
        for _ in range(self.config.steps):
            shifts = {name: moved[name] - clean[name] for name in taps}
            moved = self._moved(clean, taps, shifts, targets, _PGD_REACH / self.config.steps)
        return moved

    def _moved(self, clean, taps, shifts, targets, stride: float):
        slopes = self._slopes(clean, shifts, targets)
        result = dict(clean)
        for name, tap in taps.items():
            shift = tf.clip_by_value(
                shifts[name] + stride * tap.radius * tf.sign(slopes[name]), -tap.radius, tap.radius
            )
            result[name] = tf.stop_gradient(tf.clip_by_value(clean[name] + shift, tap.low, tap.high))
        return result

    def _gradients(self, clean, shifts, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(shifts)
            loss = self.loss({**clean, **{name: clean[name] + shift for name, shift in shifts.items()}}, targets)
        return tape.gradient(loss, shifts, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _opened(self, features: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, Tap]]:
        """The features with every tap as a float, without what is derived from them; and the taps."""
        opened = {name: value for name, value in features.items() if not name.endswith(_DERIVED)}
        taps: dict[str, Tap] = {}
        for name in self.tower.modalities:
            if name in _IDS:
                embeddings = self.tower.encoders[name].vectors.embeddings
                ids, columns = opened[_IDS[name]], self.tower.linear.columns_of(name)
                opened[f"{name}_shift"] = tf.zeros([*tf.unstack(tf.shape(ids)), embeddings.shape[-1]])
                opened[f"{name}_presence"] = tf.zeros([tf.shape(ids)[0], columns])
                taps[f"{name}_shift"] = Tap(self.config.text * tf.stop_gradient(tf.sqrt(tf.reduce_mean(embeddings**2))))
                taps[f"{name}_presence"] = Tap(self.config.text / max(columns, 1) ** 0.5)
            elif name == "audio":
                taps["audio_log_mel"] = Tap(self.config.audio / _LOG_MEL_STEP, 0.0, 255.0)
            elif name == "video":
                taps["video_frames"] = Tap(self.config.video, 0.0, 255.0)
            elif name.startswith("embedding_"):
                taps[name] = Tap(self.config.embedding * self.tower.encoders[name].standardise.size())
        return {name: tf.cast(value, tf.float32) if name in taps else value for name, value in opened.items()}, taps


ROUNDS = 4  # of the game between the linear map and the adversary


def harden(
    tower: ItemTower, config: AdversaryConfig, batches: Sequence[tuple[Mapping[str, tf.Tensor], np.ndarray]]
) -> None:
    """Solve the linear map again, half on clean items and half on what an adversary made of them: it leans less on what is easily moved.

    Each round adds the adversary's answer to the map of the rounds before, and the map answers all of them (Brown, fictitious play, 1951).
    batches: features of a prepared table and targets float [B, D]. Weight of each block and penalty stay those of the last `solve`.
    """

    def error(features, targets):
        return tf.reduce_sum((tower.linear(tower.complete(features)) - targets) ** 2, -1)

    adversary = Adversary(tower, config, error)
    weights, penalty = tower.linear.chosen

    def columns(features) -> np.ndarray:
        blocks = [
            block.numpy() * weight for block, weight in zip(tower.linear.design(tower.complete(features)), weights)
        ]
        return np.concatenate([*blocks, np.ones((len(blocks[0]), 1))], 1).astype(np.float64)

    scale = np.concatenate(
        [
            *(np.full(tower.linear.columns_of(name) + 1, weight) for name, weight in zip(tower.linear.blocks, weights)),
            [1.0],
        ]
    )
    clean = [columns(features) for features, _ in batches]
    gram, moment = sum(x.T @ x for x in clean), sum(x.T @ y for x, (_, y) in zip(clean, batches))
    moved_gram, moved_moment = np.zeros_like(gram), np.zeros_like(moment)
    for done in range(1, ROUNDS + 1):
        for features, targets in batches:
            moved = columns(adversary(features, tf.constant(targets)))
            moved_gram += moved.T @ moved
            moved_moment += moved.T @ targets
        both = (gram + moved_gram / done) / 2 + penalty * np.eye(len(gram))
        kernel = np.linalg.solve(both, (moment + moved_moment / done) / 2)
        tower.linear.kernel.assign((kernel * scale[:, None]).astype(np.float32))
