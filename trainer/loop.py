"""The training loop: any number of replicas, an end where validation no longer grows, and a way back after a kill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from trainer.batches import TrainingBatches
from trainer.checkpoints import Checkpoints, Progress
from trainer.config.engine import EngineConfig
from trainer.keras import tf
from trainer.strategy import agreed, in_precision


@dataclass(frozen=True)
class Stopping:
    """What decides when training stops and which epoch's weights are kept."""

    metric: str  # higher is better
    value: Callable[[], float]  # of the model as it is
    patience: int  # epochs without a better value before training stops


def fit(
    model: tf.keras.Model,
    batches: TrainingBatches,
    epochs: int,
    stopping: Stopping | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
    engine: EngineConfig | None = None,
) -> tf.keras.callbacks.History:
    """Train a built and compiled model in the strategy that is in scope; afterwards it has the weights of the best epoch.

    model: `compute_loss(batch, training)` gives a replica's share of the loss; shares add up. callbacks: told of the beginning, of each
    epoch's end with its logs, and of the end. checkpoints: where training goes on from, to the same weights as without a break.
    """
    progress = Progress()
    model.stop_training = False
    model.optimizer.build(model.trainable_variables)
    if checkpoints and checkpoints.attach(
        progress, model=model, optimizer=model.optimizer, generators=_generators(model)
    ):
        _say_where(progress)
    if agreed(progress.epoch) != progress.epoch or agreed(progress.step) != progress.step:
        raise RuntimeError(
            "the workers found different checkpoints: the folder of the checkpoints must be one that all of them share"
        )
    history = tf.keras.callbacks.History()
    told = tf.keras.callbacks.CallbackList(
        [*callbacks, history], model=model, epochs=epochs, steps=batches.steps_per_epoch, verbose=0
    )
    told.on_train_begin()
    for epoch, logs in enumerate(progress.logs):
        told.on_epoch_end(epoch, dict(logs))
    if not progress.is_done:
        engine = engine or EngineConfig()
        step = _training_step(model, engine.xla)

        def training_step(stream):
            with in_precision(engine.precision):
                return step(stream)

        _run(model, batches, epochs, stopping, told, progress, checkpoints, training_step)
        if progress.best_weights:
            for variable, value in zip(model.trainable_variables, progress.best_weights):
                variable.assign(value)
        progress.is_done = True
        if checkpoints and checkpoints.is_due:
            checkpoints.save()
    told.on_train_end()
    return history


def _run(model, batches, epochs, stopping, told, progress, checkpoints, training_step) -> None:
    strategy = tf.distribute.get_strategy()
    start = (progress.epoch, progress.step)
    stream = iter(strategy.distribute_datasets_from_function(lambda context: batches.dataset(*start, context)))
    while progress.epoch < epochs and not model.stop_training:
        losses = []
        while progress.step < batches.steps_per_epoch:
            losses.append(training_step(stream))
            progress.step += 1
            if checkpoints and checkpoints.is_due:
                progress.losses += map(float, losses)
                losses = []
                checkpoints.save()
        logs = {"loss": float(np.mean([*progress.losses, *map(float, losses)]))}
        if stopping:
            value = logs[f"val_{stopping.metric}"] = agreed(stopping.value())
            if value > progress.best_value or not progress.best_weights:
                progress.best_value, progress.best_epoch = value, progress.epoch
                progress.best_weights = [variable.numpy() for variable in model.trainable_variables]
            elif progress.epoch - progress.best_epoch >= stopping.patience:
                model.stop_training = True
        told.on_epoch_end(progress.epoch, dict(logs))
        progress.logs.append(logs)
        progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []


def _training_step(model: tf.keras.Model, xla: bool):
    strategy = tf.distribute.get_strategy()
    if xla and strategy.num_replicas_in_sync > 1:
        raise ValueError(f"engine.xla: compiles the step of one replica, and here are {strategy.num_replicas_in_sync}")

    is_scaled = isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)

    def replica_step(batch):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
            scaled = model.optimizer.get_scaled_loss(loss) if is_scaled else loss
        gradients = tape.gradient(scaled, model.trainable_variables)
        if is_scaled:
            gradients = model.optimizer.get_unscaled_gradients(gradients)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    run = tf.function(replica_step, jit_compile=True) if xla else replica_step

    @tf.function
    def step(stream):
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(run, args=(next(stream),)), axis=None)

    return step


def _generators(model: tf.keras.Model) -> list[tf.random.Generator]:
    """The random generators of the dropout layers, which Keras leaves out of its checkpoints."""
    owners = [module._random_generator for module in model.submodules if hasattr(module, "_random_generator")]
    return [owner._generator for owner in owners if getattr(owner, "_generator", None) is not None]


def _say_where(progress: Progress) -> None:
    where = "after the last epoch" if progress.is_done else f"from epoch {progress.epoch + 1}, step {progress.step}"
    tqdm.write(f"resuming {where}", file=sys.stderr)
