"""Differentially private training of the two towers, at the level of a person (DP-SGD).

Each step draws every person independently with the same chance, clips the gradient of each one's interactions to an
L2 norm, adds Gaussian noise to the sum, and divides by the expected number of people (Abadi et al., Deep Learning with
Differential Privacy, CCS 2016; McMahan et al., Learning Differentially Private Recurrent Language Models, ICLR 2018).
docs/privacy.md says what the guarantee covers.
B people of a microbatch, N items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from components.datasets.interactions import Interactions
from trainer.accounting import plan
from trainer.batches import TrainingBatches
from trainer.config.privacy import DifferentialConfig
from trainer.content.fit import fit_content
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.loop import run_epochs
from trainer.privacy_report import PrivacyReport
from trainer.retrieval.model import Retrieval
from trainer.retrieval.train import content_frozen, optimizer_of

_SHARED = ("candidates", "features")  # of a batch, the same for all of its people
_GRADIENT_CELLS = 8_000_000  # of the gradients of a microbatch, which decides its size
_MOST_AT_ONCE = 64  # people of a microbatch


def train_privately(
    model: Retrieval,
    train_split: Interactions,
    table: ItemTable,
    privacy: DifferentialConfig,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    seed: int | None = None,
) -> PrivacyReport:
    """Fits id embeddings and user tower by DP-SGD, then the content encoders to those; nothing else sees a person.

    No loss is logged and no validation is made: both would tell of people outside of the guarantee.
    model: of `trainer.retrieval.run.build` with private=True.
    seed: of sampling, dropout and noise, for experiments alone: who knows it can subtract the noise. None takes the
    operating system's entropy.
    """
    assert tf.distribute.get_strategy().num_replicas_in_sync == 1
    report = plan(len(train_split), privacy)
    if privacy.delta >= 1 / max(len(train_split), 1):
        logging.warning(
            "privacy.differential.delta: %g is not below 1 / %d people: that would allow to publish one of them",
            privacy.delta, len(train_split),
        )  # fmt: skip
    with content_frozen(model):
        fit_interactions_privately(model, train_split, table, privacy, report, callbacks, seed)
    tf.keras.utils.set_random_seed(model.config.seed)
    if model.item_tower.encoders:
        fit_content(model.item_tower, table, np.flatnonzero(table.arrays["id_row"]), model.config)
        model.item_tower.shrinkage.assign(shrinkage_of(privacy.content_share))
    logging.info("retrieval: (%.3g, %.3g)-differential privacy of a person: %s", report.epsilon, report.delta, report)
    return report


def shrinkage_of(content_share: float) -> float:
    """The shrinkage under which content has this share in every item's vector, where each counts one interaction."""
    return content_share / (1 - content_share)


def fit_interactions_privately(
    model: Retrieval,
    train_split: Interactions,
    table: ItemTable,
    privacy: DifferentialConfig,
    report: PrivacyReport,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    seed: int | None = None,
) -> None:
    """Takes the private steps of a plan, in the variables that are trainable. Arguments as in `train_privately`."""
    people = PeopleBatches(train_split, table, model, seed)
    model.random.reset_from_seed(int(people.generator.integers(2**62)))
    noise = tf.random.Generator.from_seed(int(people.generator.integers(2**62)))
    variables = model.trainable_variables
    deviation = report.noise_multiplier * report.clip if report.noise_multiplier else 0.0
    expected = report.sampling_rate * report.people
    steps_per_epoch = report.steps // privacy.epochs
    settings = replace(model.config, learning_rate=privacy.learning_rate, epochs=privacy.epochs)
    optimizer = optimizer_of(settings, steps_per_epoch)
    optimizer.build(variables)
    strategy = tf.distribute.get_strategy()  # puts each step on its device
    add_clipped = tf.function(
        lambda sums, batch: [total + part for total, part in zip(sums, clipped_sum(model, batch, report.clip))],
        reduce_retracing=True,
    )

    @tf.function
    def apply(sums):
        noised = [total + noise.normal(total.shape, stddev=deviation) for total in sums] if deviation else sums
        optimizer.apply_gradients([(total / expected, variable) for total, variable in zip(noised, variables)])

    def train_epoch(epoch: int) -> None:
        del epoch
        for _ in range(steps_per_epoch):
            sums = [tf.zeros_like(variable) for variable in variables]
            for batch in people.draw(report.sampling_rate):
                sums = strategy.run(add_clipped, args=(sums, batch))
            strategy.run(apply, args=(sums,))

    run_epochs(train_epoch, variables, privacy.epochs, None, callbacks, model)


class PeopleBatches:
    """Draws the people of a step, each independently with the same chance, and hands them out in microbatches.

    Of a person the last `history_length` interactions count, all as one example.
    """

    def __init__(self, train_split: Interactions, table: ItemTable, model: Retrieval, seed: int | None = None):
        cells = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        self.at_once = int(np.clip(_GRADIENT_CELLS // max(cells, 1), 1, _MOST_AT_ONCE))
        self.generator = np.random.default_rng(seed)
        self._batches = TrainingBatches(
            train_split, table, ("id_row",), self.at_once, len(table), model.history_length, 0, few_shapes=True
        )
        self._windows = self._batches.latest_windows()

    def draw(self, rate: float) -> Iterator[dict[str, Any]]:
        """The microbatches of one step."""
        chosen = self._windows[self.generator.random(len(self._windows)) < rate]
        for start in range(0, len(chosen), self.at_once):
            batch = self._batches.of_windows(chosen[start : start + self.at_once])
            yield tf.nest.map_structure(tf.constant, batch)


def clipped_sum(model: Retrieval, batch: Mapping[str, Any], clip: float) -> list[tf.Tensor]:
    """The sum over people of the gradient of each one's loss, clipped to an L2 norm: a tensor for each variable.

    Adding or removing a person changes the sum by at most `clip`, over all variables together.
    batch: of `TrainingBatches.of_windows`; people without interactions add nothing, nor do those whose gradient is not
    finite.
    """
    variables = model.trainable_variables

    def clipped(one):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(one, training=True)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        norm = tf.sqrt(tf.add_n([tf.reduce_sum(gradient**2) for gradient in gradients]))
        scale = clip_scale(norm, clip)
        return [tf.math.multiply_no_nan(gradient, scale) for gradient in gradients]

    return [tf.reduce_sum(parts, 0) for parts in per_person(clipped, batch)]


def per_person(function: Callable[[dict[str, Any]], Any], batch: Mapping[str, Any]) -> Any:
    """What a function of a batch of one person gives for each of a batch, stacked.

    batch: of `TrainingBatches.of_windows`.
    """
    shared = {name: batch[name] for name in _SHARED}
    people = {name: value for name, value in batch.items() if name not in _SHARED}
    return tf.vectorized_map(
        lambda person: function({**{name: value[None] for name, value in person.items()}, **shared}), people, warn=False
    )


def clip_scale(norm, clip: float):
    """What a gradient is multiplied with so that its norm is at most `clip`; 0 for one that is not finite."""
    scale = tf.minimum(1.0, clip / tf.maximum(norm, 1e-12))
    return tf.where(tf.math.is_finite(norm), scale, 0.0)
