"""Ours on its way: after each epoch of training, how good it is on the pairs that the stage watches."""

from __future__ import annotations

import time

from components.datasets.interactions import Interactions
from trainer.data import ItemTable
from trainer.keras import tf
from trainer.retrieval.validation import Validation


class EpochTrace(tf.keras.callbacks.Callback):
    """Adds (processor seconds of training, without its own looks; epoch; metric) to `points` after each epoch."""

    def __init__(self, metric: str, watched: Interactions, table: ItemTable, begun: float):
        """begun: process time at which training began, its preparation included."""
        super().__init__()
        self.points: list[tuple[float, int, float]] = []
        self.metric, self.watched, self.table, self.begun = metric, watched, table, begun

    def on_train_begin(self, logs=None):
        self.validation = Validation(self.model, self.watched, self.table, self.metric)

    def on_epoch_end(self, epoch, logs=None):
        now = time.process_time()
        self.points.append(
            (now - self.begun, epoch + 1, self.validation.value(self.model.item_tower.encode_ids(self.table)))
        )
        self.begun += time.process_time() - now
