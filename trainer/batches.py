"""The batches of a training run.

N items, B users of a batch, L longest history of a batch, n interactions of a batch, C candidates of a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from components.datasets.flat_window import flat_window
from components.datasets.interactions import Interactions, training_windows, window
from trainer.data import ItemTable
from trainer.keras import tf


class TrainingBatches:
    """Windows of users in a new order each epoch, with the candidates of the step and their features.

    A batch is a function of its place, so training can go on from anywhere, and every worker makes the same batches.
    """

    def __init__(
        self,
        sequences: Interactions,
        table: ItemTable,
        names: Sequence[str],
        batch_size: int,
        items_per_step: int,
        history_length: int,
        seed: int,
        few_shapes: bool = False,
        flat: bool = False,
        negatives: int = 0,
    ):
        """names: the features of the candidates. batch_size: users of a step, of all replicas together.

        history_length: a user with more interactions stands for several, one for each window. few_shapes: fill up with
        padding, so that a compiler meets B alone, and L as powers of two. flat: interactions one after the other.
        negatives: uniform draws from the catalogue for a step, of all replicas together.
        """
        self.sequences, self.table, self.names = sequences, table, tuple(names)
        self.batch_size, self.items_per_step, self.seed = batch_size, items_per_step, seed
        self._history_length = history_length
        self._users, self._stops = training_windows(sequences, history_length)
        self.steps_per_epoch = -(-len(self._users) // batch_size)
        self._few_shapes, self._flat, self._negatives = few_shapes, flat, negatives
        self._order = (-1, self._users)
        whole = np.arange(len(table), dtype=np.int32)
        self._whole = (whole, table.take(whole, self.names)) if len(table) <= items_per_step else None

    def at(self, epoch: int, step: int, part: int = 0, parts: int = 1) -> dict[str, Any]:
        """One batch, or one replica's part of it.

        `candidates` int32 [C]: the whole catalogue where it has at most `items_per_step` items, else the items of the
        whole batch and a uniform sample, in ascending order. `items` [B, L] are positions in `candidates` (-1 =
        padding), and so are `negatives` int32, the replica's part of the uniform draws. `features`: name -> [C, ...].
        `events`, `age_s` [B, L] are as in `components.datasets.interactions.Window`, `weights`, `positives`, `values`
        [B, L] those of the interactions, `ordered` bool [B] and `users` int [B] (rows of the features of users) those
        of the users. Flat batches have [n] in place of [B, L], no padding, and `rows` int32 [n], whose interaction each
        is, ascending.
        """
        windows = self._shuffled(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        batch = self._interactions(windows[part::parts])
        generator = np.random.default_rng([self.seed, epoch, step])
        if self._whole:
            candidates, features = self._whole
            negatives = generator.integers(0, len(candidates), self._negatives)
        else:
            everything = batch if parts == 1 else self._interactions(windows)
            own = np.unique(everything["items"][everything["items"] >= 0])
            drawn = generator.integers(0, len(self.table), max(self.items_per_step - len(own), self._negatives))
            candidates = np.union1d(own, drawn).astype(np.int32)
            negatives = np.searchsorted(candidates, drawn[: self._negatives])
            features = self.table.take(candidates, self.names)
            positions = np.searchsorted(candidates, batch["items"])
            batch["items"] = np.where(batch["items"] >= 0, positions, -1).astype(np.int32)
        if self._few_shapes:
            batch = _filled_up(batch, -(-self.batch_size // parts))
        negatives = negatives[part::parts].astype(np.int32)
        return {**batch, "candidates": candidates, "negatives": negatives, "features": features}

    def latest_windows(self) -> np.ndarray:
        """The window of each user that holds their most recent interactions: int64 [users with any], ascending."""
        return np.flatnonzero(np.append(self._users[1:] != self._users[:-1], len(self._users) > 0))

    def of_windows(self, windows: np.ndarray) -> dict[str, Any]:
        """A batch of windows of the caller's choice, with the whole catalogue as candidates, else as of `at`.

        windows: int [B]. Raises ValueError where a step sees a part of the catalogue only.
        """
        if self._whole is None:
            raise ValueError(f"items_per_step: got {self.items_per_step}, expected all {len(self.table)} items")
        candidates, features = self._whole
        batch = self._interactions(windows)
        if self._few_shapes:
            batch = _filled_up(batch, self.batch_size)
        return {**batch, "candidates": candidates, "features": features}

    def dataset(self, epoch: int, step: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The parts of this worker's replicas, one after the other, from a place on and without end; it reads ahead.

        Every dimension but the features' own may change from step to step.
        """
        parts = context.num_replicas_in_sync
        local = parts // context.num_input_pipelines
        first = context.input_pipeline_id * local

        def stream() -> Iterator[dict[str, Any]]:
            for place in itertools.count(epoch * self.steps_per_epoch + step):
                for part in range(first, first + local):
                    yield self.at(*divmod(place, self.steps_per_epoch), part, parts)

        example = self.at(epoch, step)
        signature = {name: _spec(array, 0) for name, array in example.items() if name != "features"}
        signature["features"] = {name: _spec(array, array.ndim - 1) for name, array in example["features"].items()}
        return tf.data.Dataset.from_generator(stream, output_signature=signature).prefetch(2 * local)

    def _interactions(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        sequences, users = self.sequences, self._users[windows]
        lengths = sequences.splits[users + 1] - sequences.splits[users]
        moments_s = sequences.asked_at_s(users, lengths)  # a target's age counts from the user's last one
        wanted = (sequences, users, self._stops[windows], self._history_length, moments_s)
        if self._flat:
            flat = flat_window(*wanted)
            columns = {name: getattr(sequences, name)[flat.at] for name in ("weights", "positives")}
            return {
                **{name: getattr(flat, name) for name in ("rows", "items", "events", "age_s")},
                **columns,
                "users": sequences.feature_rows(users),
            }
        recent = window(*wanted)
        return {
            "items": recent.items,
            "events": recent.events,
            "age_s": recent.age_s,
            "weights": recent.pick(sequences.weights, 0),
            "positives": recent.pick(sequences.positives, False),
            "values": recent.pick(sequences.values, np.nan),
            "ordered": sequences.ordered[users],
            "users": sequences.feature_rows(users),
        }

    def _shuffled(self, epoch: int) -> np.ndarray:
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self._users))
            self._order = (epoch, order)
        return order


def _filled_up(batch: dict[str, np.ndarray], users: int) -> dict[str, np.ndarray]:
    given, longest = batch["items"].shape
    wanted = 1 << (longest - 1).bit_length()
    empty = {"items": -1}
    return {
        name: np.pad(
            array, [(0, users - given), (0, wanted - longest)][: array.ndim], constant_values=empty.get(name, 0)
        )
        for name, array in batch.items()
    }


def _spec(array: np.ndarray, fixed: int) -> tf.TensorSpec:
    return tf.TensorSpec([None] * (array.ndim - fixed) + list(array.shape[array.ndim - fixed :]), array.dtype)
