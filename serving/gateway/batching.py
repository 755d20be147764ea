"""Requests that find the model busy go to it together once it is free: a call costs more than one more row in it.

Adaptive batching without a delay (Crankshaw et al., Clipper, 2017): nobody waits for company while the model is idle.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from typing import Generic, NamedTuple, TypeVar

from async_timeout import timeout

R = TypeVar("R")
A = TypeVar("A")


class _Waiting(NamedTuple):
    request: object
    deadline: float  # of the event loop's clock
    answer: asyncio.Future
    context: Context  # of who asks: a call is traced as its first request's


class Batcher(Generic[R, A]):
    """A few calls of each kind at once; who comes meanwhile is in one of the next of his kind, oldest first."""

    def __init__(
        self,
        call: Callable[[Sequence[R], float], Awaitable[Sequence[A]]],
        at_once: int,
        most: int,
        refusal: type[Exception],
    ) -> None:
        """call: takes requests of one kind and the seconds it may take; gives an answer for each. at_once: calls of a
        kind, so that a slow one holds up no other. most: requests of a call. refusal: what `call` raises where a
        request is at fault; then each is asked alone.
        """
        self._call, self._at_once, self._most, self._refusal = call, at_once, most, refusal
        self._waiting: dict[Hashable, list[_Waiting]] = {}  # by kind, where anybody waits
        self._under_way: Counter[Hashable] = Counter()  # calls of each kind
        self._calls: set[asyncio.Task] = set()  # the event loop alone would not keep them

    async def __call__(self, kind: Hashable, request: R, timeout_s: float) -> A:
        """The answer. Only requests of one kind share a call. Raises what the call raises; TimeoutError of asyncio."""
        if self._under_way[kind] < self._at_once:  # then nobody waits: on his own task, which saves turns of the loop
            self._under_way[kind] += 1
            try:
                async with timeout(timeout_s):
                    return (await self._call([request], timeout_s))[0]
            finally:
                self._ended(kind)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        answer = loop.create_future()
        expiry = loop.call_at(deadline, _expire, answer)
        self._waiting.setdefault(kind, []).append(_Waiting(request, deadline, answer, copy_context()))
        try:
            return await answer
        finally:
            expiry.cancel()

    def _start(self, kind: Hashable) -> None:
        while kind in self._waiting and self._under_way[kind] < self._at_once:
            waiting = self._waiting.pop(kind)
            batch, later = waiting[: self._most], waiting[self._most :]
            if later:
                self._waiting[kind] = later
            batch = [one for one in batch if not one.answer.done()]  # the others have gone away
            if batch:
                call = batch[0].context.run(asyncio.ensure_future, self._answer(batch))
                self._calls.add(call)
                self._under_way[kind] += 1
                call.add_done_callback(self._calls.discard)
                call.add_done_callback(lambda _: self._ended(kind))

    def _ended(self, kind: Hashable) -> None:
        self._under_way[kind] -= 1
        self._start(kind)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        left_s = max(one.deadline for one in batch) - asyncio.get_running_loop().time()
        try:
            answers = await self._call([one.request for one in batch], left_s)  # type: ignore[misc]
        except self._refusal as error:
            if len(batch) > 1:
                await asyncio.gather(*(self._answer([one]) for one in batch))
            else:
                _fail(batch, error)
        except Exception as error:  # noqa: BLE001  (whoever waits raises it)
            _fail(batch, error)
        else:
            for one, answer in zip(batch, answers):
                if not one.answer.done():
                    one.answer.set_result(answer)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)


def _expire(answer: asyncio.Future) -> None:
    if not answer.done():
        answer.set_exception(asyncio.TimeoutError())
