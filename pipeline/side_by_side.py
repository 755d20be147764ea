"""Runs steps that need each other's results; those that need none of each other's run side by side.

A lane takes one step after the other: the first lane in this process and thread, each other one in a fork of this
process, which has imported what this one has and shares its memory until it is written to.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from pipeline.supervisor import end_with_parent

Result = TypeVar("Result")


class ForkFailed(RuntimeError):
    """A step failed in a fork of this process; the message is the error's."""


class Fork(Generic[Result]):
    """A fork of this process that does a step when it is asked to. It ends when this process does."""

    def __init__(self, do: Callable[[str], Result], describe: Callable[[BaseException], str] = str):
        """do: the work of a step, of its name; its result is pickled. describe: an error of it in words."""
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_answer, args=(there, here, do, describe), name="lane")
        self._process.start()
        there.close()
        self._pipe = here

    def __call__(self, step: str) -> Result:
        """The result of a step. Raises ForkFailed where it fails, and where the process does not survive it."""
        try:
            self._pipe.send(step)
            is_done, found = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=1)
            code = self._process.exitcode
            how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
            raise ForkFailed(f"its process ended ({how}); was there memory enough?") from error
        if not is_done:
            raise ForkFailed(found)
        return found

    def end(self) -> None:
        """End the process, also in the middle of a step."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _answer(
    pipe: Connection, other_end: Connection, do: Callable[[str], Any], describe: Callable[[BaseException], str]
) -> None:
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal's Ctrl-C reaches both; the parent speaks of it
        signal.signal(number, signal.SIG_DFL)
    other_end.close()
    with contextlib.suppress(EOFError):
        while True:
            step = pipe.recv()
            try:
                answer = True, do(step)
            except Exception as error:  # noqa: BLE001  (told where the step was asked for)
                answer = False, describe(error)
            pipe.send(answer)


@contextlib.contextmanager
def forks(number: int, do: Callable[[str], Result], describe: Callable[[BaseException], str]) -> Iterator[list[Fork]]:
    """So many forks of this process, which end with the block."""
    made: list[Fork] = []
    try:
        for _ in range(number):
            made.append(Fork(do, describe))
        yield made
    finally:
        for fork in made:
            fork.end()


def run(
    needs: Mapping[str, Collection[str]],
    lanes: Sequence[Callable[[str], Result]],
    on_start: Callable[[str], None],
    on_end: Callable[[str, Result], None],
) -> None:
    """Do every step once what it needs is done.

    needs: step -> the steps that must be done before, in an order in which they can be done one after the other.
    lanes: each does a step at a time; the first in this thread.
    on_start, on_end: are told of each step, one call at a time, in the order in which steps start and end.
    Raises what a lane or `on_end` raises, the first of them, once the steps that have started are done: nothing of
    theirs is lost.
    """
    schedule = _Schedule(needs, on_start, on_end)
    others = [threading.Thread(target=schedule.follow, args=(lane,), daemon=True) for lane in lanes[1:]]
    for thread in others:
        thread.start()
    schedule.follow(lanes[0])
    for thread in others:
        thread.join()
    if schedule.error is not None:
        raise schedule.error


class _Schedule(Generic[Result]):
    """What has been done and what waits."""

    def __init__(
        self,
        needs: Mapping[str, Collection[str]],
        on_start: Callable[[str], None],
        on_end: Callable[[str, Result], None],
    ):
        self._needs, self._on_start, self._on_end = needs, on_start, on_end
        self._waiting = list(needs)
        self._done: set[str] = set()
        self._change = threading.Condition()
        self.error: Exception | None = None

    def follow(self, lane: Callable[[str], Result]) -> None:
        """Take steps until there is none, or one has failed."""
        while (step := self._next()) is not None:
            try:
                result = lane(step)
            except Exception as error:  # noqa: BLE001  (`run` raises it)
                self._fail(error)
            else:
                self._end(step, result)

    def _next(self) -> str | None:
        with self._change:
            while self._waiting and self.error is None:
                for step in self._waiting:
                    if self._done.issuperset(self._needs[step]):
                        self._waiting.remove(step)
                        self._on_start(step)
                        return step
                self._change.wait()
            return None

    def _end(self, step: str, result: Result) -> None:
        with self._change:
            try:
                self._on_end(step, result)
                self._done.add(step)
            except Exception as error:  # noqa: BLE001  (`run` raises it)
                self.error = self.error or error
            self._change.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._change:
            self.error = self.error or error
            self._change.notify_all()
