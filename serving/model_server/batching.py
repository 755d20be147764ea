"""Batches concurrent requests of one signature: those that wait for a thread run as one, and each gets its own rows."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Protocol
from weakref import WeakSet

import numpy as np
import tensorflow as tf
from grpc import StatusCode

from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import BatchingConfig
from serving.model_server.errors import ServingError

Tensors = Mapping[str, tf.Tensor]


class Function(Protocol):
    """A signature."""

    def run_unbatched(self, inputs: Tensors, token: CancellationToken) -> dict[str, tf.Tensor]:
        """The outputs for these inputs. Raises ServingError."""


class _Task:
    """One request: its inputs, and what becomes of it once `done` is set."""

    def __init__(self, inputs: Tensors, size: int, token: CancellationToken) -> None:
        self.inputs, self.size, self.token = inputs, size, token
        self.done = threading.Event()
        self.outputs: dict[str, tf.Tensor] = {}
        self.error: BaseException | None = None


class _Batch:
    """Requests that may be run together: of one function, and alike but for their number of rows."""

    def __init__(self, function: Function, due_s: float) -> None:
        self.function, self.due_s = function, due_s
        self.tasks: list[_Task] = []
        self.size = 0
        self.is_full = False


class Batcher:
    """A few threads that run what is waiting, oldest first.

    A batch waits until it is full, or its time is up and a thread is free.
    """

    def __init__(self, config: BatchingConfig) -> None:
        self._config = config
        self._change = threading.Condition()
        self._waiting: deque[_Batch] = deque()
        self._open: dict[tuple, _Batch] = {}  # the one of its kind that still takes requests
        self._enqueued: Counter[Function] = Counter()  # waiting batches of each function
        self._unmergeable: WeakSet[Function] = WeakSet()  # functions with outputs that are not a row for each row
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{n}", daemon=True) for n in range(config.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def execute(self, function: Function, inputs: Tensors, token: CancellationToken) -> dict[str, tf.Tensor]:
        """The outputs of `function` for these inputs, perhaps computed together with others'.

        Inputs without a common number of rows, and functions whose outputs have another one, run alone and at once.
        More rows than a batch may have are a batch of their own.
        Raises ServingError: what the function raises for these inputs; RESOURCE_EXHAUSTED where too many batches wait;
        CANCELLED where the token was cancelled, which is then not run at all if it still waits.
        """
        sizes = {tensor.shape[0] if tensor.shape.rank else None for tensor in inputs.values()}
        size = sizes.pop() if len(sizes) == 1 else None
        if size is None or function in self._unmergeable:
            return function.run_unbatched(inputs, token)
        task = _Task(inputs, size, token)
        self._submit(function, task)
        token.on_cancel(task.done.set)
        task.done.wait()
        if token.cancelled:
            raise ServingError(StatusCode.CANCELLED, "the request was cancelled before it was answered")
        if task.error is not None:
            raise task.error
        return task.outputs

    def close(self) -> None:
        """Run what waits, then end the threads."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _submit(self, function: Function, task: _Task) -> None:
        limit = self._config.max_batch_size
        kind = (function, *sorted((name, tuple(tensor.shape[1:])) for name, tensor in task.inputs.items()))
        with self._change:
            batch = self._open.get(kind)
            if batch is None or batch.size + task.size > limit:
                if self._enqueued[function] >= self._config.max_enqueued_batches:
                    raise ServingError(
                        StatusCode.RESOURCE_EXHAUSTED,
                        f"{self._enqueued[function]} batches are waiting; try again later",
                    )
                if batch is not None:
                    batch.is_full = True
                batch = self._open[kind] = _Batch(function, time.monotonic() + self._config.batch_timeout_s)
                self._waiting.append(batch)
                self._enqueued[function] += 1
            batch.tasks.append(task)
            batch.size += task.size
            batch.is_full = batch.size >= limit
            self._change.notify()

    def _work(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Wait for a batch and run it; False when it is time to end.

        Nothing of a batch is kept while the thread waits for the next: its function may be of a retired model.
        """
        batch = self._next()
        if batch is None:
            return False
        tasks = [task for task in batch.tasks if not task.token.cancelled]
        try:
            self._answer(batch.function, tasks)
        except BaseException as error:  # noqa: BLE001  (the requests' own threads raise it)
            for task in tasks:
                task.error = error
        for task in tasks:
            task.done.set()
        return True

    def _next(self) -> _Batch | None:
        """The next batch to run, taken off; None when it is time to end."""
        with self._change:
            while True:
                now_s = time.monotonic()
                is_due = (one for one in self._waiting if one.is_full or self._stopping or one.due_s <= now_s)
                if (batch := next(is_due, None)) is not None:
                    self._waiting.remove(batch)
                    self._open = {kind: other for kind, other in self._open.items() if other is not batch}
                    self._enqueued[batch.function] -= 1
                    if not self._enqueued[batch.function]:
                        del self._enqueued[batch.function]  # or a retired model would be kept
                    if self._waiting:
                        self._change.notify()  # somebody else looks after those
                    return batch
                if self._stopping:
                    return None
                self._change.wait(min((batch.due_s for batch in self._waiting), default=now_s + 3600) - now_s)

    def _answer(self, function: Function, tasks: list[_Task]) -> None:
        if len(tasks) > 1 and self._together(function, tasks):
            return
        for task in tasks:
            try:
                task.outputs = function.run_unbatched(task.inputs, task.token)
            except ServingError as error:
                task.error = error
            task.done.set()

    def _together(self, function: Function, tasks: list[_Task]) -> bool:
        """Whether all tasks could be answered by one run.

        One bad request fails it; then each must be tried by itself.
        """
        inputs = {name: _joined([task.inputs[name] for task in tasks]) for name in tasks[0].inputs}
        try:
            outputs = function.run_unbatched(inputs, _token_of_all(tasks))
        except ServingError:
            return False
        num_rows = sum(task.size for task in tasks)
        if any(not tensor.shape.rank or tensor.shape[0] != num_rows for tensor in outputs.values()):
            self._unmergeable.add(function)
            return False
        arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
        start = 0
        for task in tasks:
            rows = slice(start, start + task.size)
            task.outputs = {name: tf.constant(array[rows], outputs[name].dtype) for name, array in arrays.items()}
            start += task.size
        return True


def _joined(parts: list[tf.Tensor]) -> tf.Tensor:
    return tf.constant(np.concatenate([part.numpy() for part in parts]), parts[0].dtype)


def _token_of_all(tasks: list[_Task]) -> CancellationToken:
    """Cancelled once every task's token is: the others' answers are wanted until then."""
    together, lock, left = CancellationToken(), threading.Lock(), [len(tasks)]

    def leave() -> None:
        with lock:
            left[0] -= 1
        if not left[0]:
            together.cancel()

    for task in tasks:
        task.token.on_cancel(leave)
    return together
