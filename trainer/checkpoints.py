"""Checkpoints of a training that may be killed, in a folder that outlives the attempt."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from components.file_state import size_and_mtime
from trainer.keras import tf


class Progress(tf.train.experimental.PythonState):
    """How far a training has come: everything that is not in the variables of model and optimizer."""

    def __init__(self) -> None:
        self.epoch = 0  # finished epochs
        self.step = 0  # finished steps of the epoch that runs
        self.losses: list[float] = []  # of those steps
        self.logs: list[dict[str, float]] = []  # of the finished epochs
        self.best_value = -np.inf  # of the validation metric
        self.best_epoch = -1  # number of the epoch that gave it, -1 = the weights before the first
        self.best_weights: list[np.ndarray] = []  # of that epoch
        self.is_done = False

    def remember(self, value: float, epoch: int, variables: Iterable[tf.Variable]) -> None:
        """Keeps the weights as the best so far, with their value of the validation metric."""
        self.best_value, self.best_epoch = value, epoch
        self.best_weights = [variable.numpy() for variable in variables]

    def serialize(self) -> bytes:
        """The state as one NPZ, its plain values as JSON in it."""
        plain = {name: value for name, value in vars(self).items() if name in _PLAIN}
        buffer = io.BytesIO()
        weights = {f"weight_{number}": weight for number, weight in enumerate(self.best_weights)}
        np.savez(buffer, plain=np.frombuffer(json.dumps(plain).encode(), np.uint8), **weights)
        return buffer.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        """The inverse of `serialize`."""
        arrays = np.load(io.BytesIO(string_value))
        for name, value in json.loads(arrays["plain"].tobytes()).items():
            setattr(self, name, value)
        self.best_weights = [arrays[f"weight_{number}"] for number in range(len(arrays.files) - 1)]


_PLAIN = ("epoch", "step", "losses", "logs", "best_value", "best_epoch", "is_done")


class Checkpoints:
    """Saves and restores one training, in a folder that one attempt leaves to the next."""

    def __init__(self, where: str, name: str, every_s: float, is_writer: bool = True):
        """where: folder of all attempts at one training, local or remote.
        name: of the folder in it, one for each set of inputs.
        every_s: seconds between two saves, 0 = at every chance.
        is_writer: False on the workers that only read.
        """
        self.where, self.folder, self._every_s, self._is_writer = where, f"{where}/{name}", every_s, is_writer
        self._saved_at = time.monotonic()
        self._manager: tf.train.CheckpointManager | None = None

    def attach(self, progress: Progress, **trackables: Any) -> bool:
        """Names the state of the training, its variables built, and restores it where there is a checkpoint.

        Returns whether there was one. Raises RuntimeError for a checkpoint that cannot be read.
        """
        checkpoint = tf.train.Checkpoint(progress=progress, **trackables)
        _ = checkpoint.save_counter  # made now, by all workers together, not by the one that saves
        self._manager = tf.train.CheckpointManager(checkpoint, self.folder, max_to_keep=1)
        latest = self._manager.latest_checkpoint
        if latest is None:
            return False
        try:
            checkpoint.restore(latest).assert_existing_objects_matched()
        except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:
            raise RuntimeError(
                f"the checkpoint {latest} cannot be read; delete {self.folder} to start over: {error}"
            ) from error
        return True

    @property
    def is_due(self) -> bool:
        """Whether the last save is long enough ago."""
        return self._is_writer and time.monotonic() - self._saved_at >= self._every_s

    def save(self) -> None:
        """Writes a checkpoint and drops the one before; a kill at any moment leaves one of the two whole."""
        assert self._manager is not None, "attach comes first"
        self._manager.save()
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Deletes all attempts, those at other inputs too, once the trained model is written."""
        if self._is_writer and tf.io.gfile.exists(self.where):
            tf.io.gfile.rmtree(self.where)


def fingerprint(patterns: Iterable[str], *settings: Any) -> str:
    """Hash of a training's inputs: 32 hex digits of files (path, size, time of change) and of settings.

    patterns: of files, or folders whose files count.
    settings: values that JSON can hold.
    """
    facts = []
    for pattern in patterns:
        for path in sorted(tf.io.gfile.glob(tf.io.gfile.join(pattern, "*") if tf.io.gfile.isdir(pattern) else pattern)):
            facts.append((path, *size_and_mtime(path)))
    return hashlib.blake2b(json.dumps([facts, settings], sort_keys=True).encode(), digest_size=16).hexdigest()
