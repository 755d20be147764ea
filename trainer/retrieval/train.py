"""Training of the two-tower model: on interactions, then of the content encoders, then of their shrinkage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from components.datasets.interactions import Interactions
from trainer.batches import TrainingBatches
from trainer.checkpoints import Checkpoints
from trainer.config.engine import EngineConfig
from trainer.config.retrieval import RetrievalConfig
from trainer.content.fit import fit_content
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.loop import Stopping, fit
from trainer.optimizer import FusedAdam
from trainer.retrieval.model import Retrieval
from trainer.retrieval.validation import Validation

_NOT_DECAYED = ["gains", "prior", "bias", "gamma", "beta", "rating"]  # weights that have no reason to be small
SHRINKAGES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # interactions at which content counts as much as the id embedding


def train(
    model: Retrieval,
    train_split: Interactions,
    eval_split: Interactions,
    table: ItemTable,
    engine: EngineConfig | None = None,
    checkpoints: Checkpoints | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    content_callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> tf.keras.callbacks.History:
    """Fits id embeddings and user tower, then the content encoders, then the shrinkage from id embeddings to content.

    Runs in the strategy that is in scope, in which the model was built; the item tower has prepared the table.
    checkpoints: where the first part goes on after a kill; the others start again, from the same weights.
    callbacks, content_callbacks: of the first part, and of `fit_content`.
    Returns the logs of each epoch; its `content` is the report of `fit_content`, where the tower has content.
    """
    history = fit_interactions(model, train_split, eval_split, table, engine, checkpoints, callbacks)
    config = model.config
    tf.keras.utils.set_random_seed(config.seed)  # the rest does not depend on whether the first part was resumed
    if model.item_tower.encoders:
        warm = np.flatnonzero(table.arrays["id_row"])
        history.content = fit_content(model.item_tower, table, warm, config, content_callbacks)
        if len(eval_split):
            _choose_shrinkage(model, table, Validation(model, eval_split, table, config.metric))
    return history


def fit_interactions(
    model: Retrieval,
    train_split: Interactions,
    eval_split: Interactions,
    table: ItemTable,
    engine: EngineConfig | None = None,
    checkpoints: Checkpoints | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    epochs: int | None = None,
) -> tf.keras.callbacks.History:
    """Fits id embeddings and user tower until the validation metric stops improving; arguments as in `train`.

    epochs: at most; as configured where None. A decaying learning rate spans the configured ones in either case.
    """
    config, engine = model.config, engine or EngineConfig()
    batches = TrainingBatches(
        train_split,
        table,
        ("id_row",),
        config.batch_size,
        config.items_per_step,
        model.history_length,
        config.seed,
        few_shapes=engine.xla,
        flat=model.takes_flat and not engine.xla,
        negatives=config.negatives if model.takes_negatives else 0,
    )
    validation = Validation(model, eval_split, table, config.metric)
    stopping = Stopping(config.metric, lambda: validation.value(model.item_tower.encode_ids(table)), config.patience)
    with content_frozen(model):
        model.compile(optimizer=optimizer_of(config, batches.steps_per_epoch, engine))
        wanted = config.epochs if epochs is None else epochs
        return fit(model, batches, wanted, stopping if len(eval_split) else None, callbacks, checkpoints, engine)


@contextmanager
def content_frozen(model: Retrieval) -> Iterator[None]:
    """While interactions are fitted, the content encoders are no variables of the training."""
    for layer in model.item_tower.content_layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in model.item_tower.content_layers:
            layer.trainable = True


def optimizer_of(
    config: RetrievalConfig, steps_per_epoch: int, engine: EngineConfig | None = None
) -> tf.keras.optimizers.Optimizer:
    """AdamW as configured, its loss scaled where gradients would underflow in 16 bits."""
    rate = config.learning_rate
    if config.cosine_decay:
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, steps_per_epoch * config.epochs, alpha=0.02)
    optimizer = FusedAdam(rate, weight_decay=config.weight_decay or None)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    if engine is not None and engine.precision == "mixed_float16":
        return tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def _choose_shrinkage(model: Retrieval, table: ItemTable, validation: Validation) -> None:
    """Sets the tower's shrinkage to the value with the best validation metric."""
    tower, values = model.item_tower, []
    views = tower.encode_views(table)  # the same whatever they are mixed by
    for shrinkage in SHRINKAGES:
        tower.shrinkage.assign(shrinkage)
        values.append(validation.value(tower.mixed(table, views)))
    tower.shrinkage.assign(SHRINKAGES[int(np.argmax(np.nan_to_num(values)))])
