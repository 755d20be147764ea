"""How many requests for lists are worked on at once: as many as are answered in time; the others are refused."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

START, FEWEST = 32.0, 8.0  # requests at once; a stall of a moment may fill as many
LATE_SHARE = 0.75  # of the budget: an answer that took longer came late
LESS = 0.8  # what is left of the bound after a late answer
TICK_S = 0.01  # how often the event loop is asked for a turn
LAG_SHARE, FEW = 0.15, 4  # of the budget: a loop so far behind takes no more than a few lists at once
TURNS = 3  # in a row: one is late after a stall of a moment, and the next because of what came meanwhile


class LoopLag:
    """How long the event loop lets a turn wait: requests queue there before anything can count them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = float("inf")
        self._waited_s = deque([0.0] * TURNS, TURNS)  # of the last turns

    @property
    def seconds(self) -> float:
        """What so many turns in a row waited at least, of which the last may still wait."""
        oldest_s, *others_s = self._waited_s
        return min(*others_s, max(oldest_s, self._clock() - self._due))

    def tick(self) -> None:
        """The turn has come; the next one is due in TICK_S."""
        now = self._clock()
        self._waited_s.append(max(now - self._due, 0.0))
        self._due = now + TICK_S

    async def run(self) -> None:
        """Ask for turns until it is cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)


class Admission:
    """A bound that grows by one with each bound-full of answers in time, and shrinks by a factor after a late one.

    Additive increase, multiplicative decrease (Chiu & Jain, 1989): without a bound, a queue makes every answer late.
    """

    def __init__(self, most: int, budget_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """most: requests at once, whatever their answers take. budget_s: of an answer."""
        self._most, self._budget_s, self._clock = float(most), budget_s, clock
        self.lag = LoopLag(clock)
        self._bound = min(START, self._most)
        self._shrunk_at = float("-inf")
        self.in_flight = 0

    @property
    def bound(self) -> int:
        """Requests at once, now."""
        return int(self._bound)

    @property
    def is_full(self) -> bool:
        """Whether the next request is refused."""
        is_behind = self.in_flight >= FEW and self.lag.seconds > LAG_SHARE * self._budget_s
        return is_behind or self.in_flight >= self.bound

    def enter(self) -> bool:
        """Count a request in; False where it has to be refused."""
        if self.is_full:
            return False
        self.in_flight += 1
        return True

    def leave(self, seconds: float, is_models: bool) -> None:
        """Count a request out.

        seconds: what its answer took. is_models: whether it is the model's; one that stands in for it, however quick,
        does not say that the model could do more.
        """
        is_used = 2 * self.in_flight >= self.bound  # little load says nothing of a bound above the usual
        self.in_flight -= 1
        if seconds <= LATE_SHARE * self._budget_s:
            if is_models and (is_used or self._bound < START):
                self._bound = min(self._bound + 1 / self._bound, self._most)
        elif self._clock() - self._shrunk_at >= self._budget_s:  # answers that wait together are late together: once
            self._bound = max(LESS * self._bound, min(FEWEST, self._most))
            self._shrunk_at = self._clock()
