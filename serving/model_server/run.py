"""A request on its way, and how it is called off."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tensorflow.python.eager.cancellation import CancellationManager


class Run:
    """One request's run, which its deadline or its caller may cancel, from any thread and at any time."""

    def __init__(self) -> None:
        self.manager = CancellationManager()
        self.cancelled = False  # by `cancel`; the manager calls itself cancelled when an op has failed, too
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Stop the graph as soon as its next op allows; nothing happens where it has ended."""
        with self._lock:
            self.cancelled = True
            calls, self._calls = self._calls, []
        self.manager.start_cancel()
        for call in calls:
            call()

    def when_cancelled(self, call: Callable[[], None]) -> None:
        """Call `call` once when, or as soon as, this is cancelled."""
        with self._lock:
            if not self.cancelled:
                self._calls.append(call)
                return
        call()
