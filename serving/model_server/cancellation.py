"""Cancellation of one request's graph execution, by its deadline, its caller or the server's end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tensorflow.python.eager.cancellation import CancellationManager


class CancellationToken:
    """Says that nobody waits for one request any more; may be cancelled from any thread and at any time."""

    def __init__(self) -> None:
        self.manager = CancellationManager()
        self.cancelled = False  # by `cancel`; the manager calls itself cancelled when an op has failed, too
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Stop the graph as soon as its next op allows; nothing happens where it has ended."""
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        self.manager.start_cancel()
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when, or as soon as, this is cancelled."""
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(callback)
                return
        callback()
