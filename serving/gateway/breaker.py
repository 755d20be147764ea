"""A circuit breaker: after failures in a row the other side is left alone for a while, then tried with one request."""

from __future__ import annotations

import time
from collections.abc import Callable

SILENT_S = 0.5  # without any success; in an overload calls fail in a row while others are answered


class CircuitBreaker:
    """Closed while calls succeed; open after `failures` in a row; after `retry_s` one call is let through to try."""

    def __init__(self, failures: int, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._retry_s, self._clock = failures, retry_s, clock
        self._failures = 0
        self._succeeded_at = self._try_at = float("-inf")
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for the one that tries."""
        return self._is_open

    def allows(self) -> bool:
        """Whether a call may be made now; where the breaker is open, True once every `retry_s`."""
        if not self._is_open:
            return True
        now = self._clock()
        if now < self._try_at:
            return False
        self._try_at = now + self._retry_s
        return True

    def succeeded(self) -> None:
        """The call was answered."""
        self._failures, self._is_open, self._succeeded_at = 0, False, self._clock()

    def failed(self) -> None:
        """The call was not answered."""
        self._failures += 1
        now = self._clock()
        if not self._is_open and self._failures >= self._limit and now - self._succeeded_at >= SILENT_S:
            self._is_open, self._try_at = True, now + self._retry_s
