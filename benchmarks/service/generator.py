"""An open-loop generator of load: requests leave at set times, whether or not earlier answers have come."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
import numpy as np

RECOMMEND, EVENT, SIMILAR = "recommend", "event", "similar"
MIX = {RECOMMEND: 0.80, EVENT: 0.15, SIMILAR: 0.05}
EVENT_KINDS = ("play", "like", "complete", "skip")
CALL_S = 10.0
REFUSALS = (429, 503)  # statuses
AGAIN_S, MOST_TRIES = 0.5, 240  # of an event that was not acknowledged: sent again under its id


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    kind: str
    due: float  # time.monotonic() at which it had to leave
    milliseconds: float  # from then to the answer
    status: int  # of HTTP, 0 without an answer
    is_degraded: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it is what the service gives when all is well."""
        return self.status == 200 and not self.is_degraded


@dataclass(frozen=True)
class Acknowledged:
    """An event that the service has said to hold."""

    user_id: str
    event_id: str


class Generator:
    """Sends the mix of requests at a rate, to one or more gateways in turn."""

    def __init__(self, urls: Sequence[str], users: Sequence[str], items: Sequence[str], seed: int = 0) -> None:
        self._urls, self._users, self._items = itertools.cycle(urls), users, items
        self._random, self._numbers = random.Random(seed), itertools.count()
        self._name = f"{time.time_ns():x}"
        self.acknowledged: list[Acknowledged] = []

    async def __aenter__(self) -> Generator:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=CALL_S)
        )
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def run(self, rate: float, seconds: float, repeats_events: bool = False) -> list[Outcome]:
        """Poisson arrivals at `rate` a second for so many seconds, or until it is cancelled.

        repeats_events: whether an event that was not acknowledged is sent again, as a careful caller does.
        """
        outcomes: list[Outcome] = []
        await self.run_into(outcomes, rate, seconds, repeats_events)
        return outcomes

    async def run_into(
        self, outcomes: list[Outcome], rate: float, seconds: float = float("inf"), repeats_events: bool = False
    ) -> None:
        """As `run`, with the outcomes in a list that can be read meanwhile."""
        tasks: set[asyncio.Task] = set()
        due = time.monotonic()
        end = due + seconds
        try:
            while due < end:
                await asyncio.sleep(max(due - time.monotonic(), 0))
                (kind,) = self._random.choices([*MIX], [*MIX.values()])
                task = asyncio.create_task(self._one(kind, due, outcomes, repeats_events))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += self._random.expovariate(rate)
        finally:
            await asyncio.gather(*tasks)

    async def _one(self, kind: str, due: float, outcomes: list[Outcome], repeats_events: bool) -> None:
        url, user, item = next(self._urls), self._random.choice(self._users), self._random.choice(self._items)
        if kind != EVENT:
            path = f"/v1/users/{user}/recommendations" if kind == RECOMMEND else f"/v1/items/{item}/similar"
            status, answer = await self._call("GET", url + path)
            is_degraded = status == 200 and answer["degraded"] is not None
            outcomes.append(Outcome(kind, due, 1000 * (time.monotonic() - due), status, is_degraded))
            return
        event = {
            "user_id": user,
            "item_id": item,
            "event": self._random.choice(EVENT_KINDS),
            "event_id": f"load-{self._name}-{next(self._numbers)}",
        }
        for attempt in range(MOST_TRIES if repeats_events else 1):
            status, _ = await self._call("POST", url + "/v1/events", event)
            if attempt == 0:
                outcomes.append(Outcome(kind, due, 1000 * (time.monotonic() - due), status))
            if status == 200:
                self.acknowledged.append(Acknowledged(user, event["event_id"]))
                return
            if repeats_events:
                await asyncio.sleep(AGAIN_S)

    async def _call(self, method: str, url: str, body: Any = None) -> tuple[int, Any]:
        """Status and body, 0 without an answer."""
        try:
            async with self._session.request(method, url, json=body) as response:
                text = await response.read()
                return response.status, json.loads(text) if response.status == 200 else None
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError):
            return 0, None


async def items_of(url: str) -> list[str]:
    """The items that a gateway shows, by its own list."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/items?limit=1000") as response:
        return [item["item_id"] for item in (await response.json())["items"]]


async def metrics_of(urls: Iterable[str]) -> dict[str, float]:
    """The gateways' metrics, added up: name with labels -> value."""
    found: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        for url in urls:
            async with session.get(f"{url}/metrics") as response:
                for line in (await response.text()).splitlines():
                    if not line.startswith("#"):
                        name, _, value = line.rpartition(" ")
                        found[name] = found.get(name, 0.0) + float(value)
    return found


def quantile_ms(outcomes: Iterable[Outcome], share: float) -> float | None:
    """A quantile of the times of those that were answered; None where there is none."""
    values = [one.milliseconds for one in outcomes if one.status]
    return float(np.quantile(values, share)) if values else None
