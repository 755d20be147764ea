"""The training loop of every model here: epochs until validation stops improving, then the best epoch's weights.

`run_epochs` is that loop over any function that trains for an epoch. `fit` runs it for a Keras model on any number of
replicas, with checkpoints from which a killed training goes on to the same weights.
"""

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
from trainer.strategy import agreed, in_precision, is_chief


@dataclass(frozen=True)
class Stopping:
    """Early stopping: the metric that decides when training ends and which epoch's weights are kept."""

    metric: str  # its name; in the logs val_<metric>
    value: Callable[[], float]  # of the weights as they are
    patience: int  # epochs without a better value before training ends
    higher_is_better: bool = True
    start_value: float | None = None  # of the weights before the first epoch, which then compete; None: they do not
    start_patience: int | None = None  # epochs without a value better than `start_value`; None: as `patience`

    def is_over(self, epoch: int, best_epoch: int) -> bool:
        """Whether training ends after an epoch that was no better than `best_epoch`, -1 for the start."""
        patience = self.patience if best_epoch >= 0 or self.start_patience is None else self.start_patience
        return epoch - best_epoch >= patience


class ProgressBar(tf.keras.callbacks.Callback):
    """A bar over the epochs on the chief's terminal, with the loss and the validation metric beside it."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def on_train_begin(self, logs=None):
        disable = None if is_chief() else True  # None: where there is no terminal
        self.bar = tqdm(total=self.params["epochs"], unit="epoch", desc=self._name, disable=disable, leave=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix(
            {name: f"{value:.4f}" for name, value in (logs or {}).items() if name == "loss" or name.startswith("val_")}
        )
        self.bar.update()

    def on_train_end(self, logs=None):
        self.bar.close()


class EpochLog(tf.keras.callbacks.Callback):
    """Writes the logs of each epoch as TensorBoard scalars named as Keras names them, on the chief."""

    def __init__(self, folder: str):
        super().__init__()
        self._writer = tf.summary.create_file_writer(folder) if is_chief() else tf.summary.create_noop_writer()

    def on_epoch_end(self, epoch, logs=None):
        with self._writer.as_default(epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(f"epoch_{name}", value)

    def on_train_end(self, logs=None):
        self._writer.close()


def run_epochs(
    train_epoch: Callable[[int], float | None],
    variables: Sequence[tf.Variable],
    epochs: int,
    stopping: Stopping | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    model: tf.keras.Model | None = None,
    progress: Progress | None = None,
) -> Progress:
    """Trains for some epochs at most, with early stopping; afterwards `variables` have the values of the best epoch.

    train_epoch: trains for the epoch of a number, from 0 on; returns its mean loss, or None.
    variables: what training changes.
    stopping: None trains for all epochs, and the last weights stay; so does a value that is never a number.
    callbacks: told of the beginning, of each epoch's end with its logs, and of the end; `model` is theirs to look at.
    progress: where a training goes on; a new one starts where None.
    Returns the progress, with the logs of every epoch and the best value.
    """
    progress = progress or Progress()
    told = tf.keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, verbose=0)
    told.on_train_begin()
    for epoch, logs in enumerate(progress.logs):
        told.on_epoch_end(epoch, dict(logs))
    if stopping and stopping.start_value is not None and not progress.best_weights:
        progress.remember(stopping.start_value, -1, variables)
    while not progress.is_done and progress.epoch < epochs:
        loss = train_epoch(progress.epoch)
        logs = {} if loss is None else {"loss": loss}
        if stopping:
            value = logs[f"val_{stopping.metric}"] = agreed(stopping.value())
            is_better = value > progress.best_value if stopping.higher_is_better else value < progress.best_value
            if is_better or not (progress.best_weights or np.isnan(value)):
                progress.remember(value, progress.epoch, variables)
            elif progress.best_weights and stopping.is_over(progress.epoch, progress.best_epoch):
                progress.is_done = True
        told.on_epoch_end(progress.epoch, dict(logs))
        progress.logs.append(logs)
        progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []
    if progress.best_weights:
        for variable, weight in zip(variables, progress.best_weights):
            variable.assign(weight)
    progress.is_done = True
    told.on_train_end()
    return progress


def fit(
    model: tf.keras.Model,
    batches: TrainingBatches,
    epochs: int,
    stopping: Stopping | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
    engine: EngineConfig | None = None,
) -> tf.keras.callbacks.History:
    """Trains a built and compiled model in the strategy that is in scope, as `run_epochs` does.

    model: `compute_loss(batch, training)` gives a replica's share of the loss; shares add up.
    checkpoints: where training goes on after a kill, to the same weights as without a break.
    Returns the logs of each epoch. Raises RuntimeError where workers find different checkpoints.
    """
    engine, progress, history = engine or EngineConfig(), Progress(), tf.keras.callbacks.History()
    model.optimizer.build(model.trainable_variables)
    if checkpoints and checkpoints.attach(
        progress, model=model, optimizer=model.optimizer, generators=_generators(model)
    ):
        _say_where(progress)
    if agreed(progress.epoch) != progress.epoch or agreed(progress.step) != progress.step:
        raise RuntimeError(
            "the workers found different checkpoints: the folder of the checkpoints must be one that all of them share"
        )
    start = (progress.epoch, progress.step)
    strategy = tf.distribute.get_strategy()
    stream = iter(strategy.distribute_datasets_from_function(lambda context: batches.dataset(*start, context)))
    step = _training_step(model, engine.xla)

    def train_epoch(epoch: int) -> float:
        losses = []
        while progress.step < batches.steps_per_epoch:
            with in_precision(engine.precision):
                losses.append(step(stream))
            progress.step += 1
            if checkpoints and checkpoints.is_due:
                progress.losses += map(float, losses)
                losses = []
                checkpoints.save()
        return float(np.mean([*progress.losses, *map(float, losses)]))

    run_epochs(train_epoch, model.trainable_variables, epochs, stopping, [*callbacks, history], model, progress)
    if checkpoints and checkpoints.is_due:
        checkpoints.save()
    return history


def _training_step(model: tf.keras.Model, xla: bool):
    """A function of the stream of batches: takes a step on all replicas and returns the loss of the global batch."""
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
        # Adam's moments fall in every row, so a gradient of some rows is no cheaper than one of all.
        gradients = [None if each is None else tf.convert_to_tensor(each) for each in gradients]
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
