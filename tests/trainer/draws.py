"""What the sampled softmax draws, and how often it says that it does."""

from __future__ import annotations

import numpy as np

from trainer.keras import tf
from trainer.retrieval.model import Retrieval


def note_draws(model: Retrieval) -> tf.Variable:
    """Has a model of the loss `softmax`, in its strategy's scope, note its candidates: float [4, N], for `shares`."""
    task, num_items = model.task, len(model.item_share)
    notes = tf.Variable(
        tf.zeros([4, num_items]),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )

    def noting(*args, candidate_ids, candidate_sampling_probability, **kwargs):
        times = tf.math.unsorted_segment_sum(tf.ones_like(candidate_sampling_probability), candidate_ids, num_items)
        told = tf.math.unsorted_segment_sum(candidate_sampling_probability, candidate_ids, num_items)
        share = times / tf.reduce_sum(times)
        notes.assign_add(tf.stack([share, tf.ones_like(share), told, times]))
        drawn = {"candidate_ids": candidate_ids, "candidate_sampling_probability": candidate_sampling_probability}
        return task(*args, **drawn, **kwargs)

    model.task = noting
    return notes


def shares(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each item's share of the candidates, as it was and as the correction took it to be: float [N] each."""
    share, steps, told, times = notes
    return share / steps, told / times
