"""kill -9 of one part after another under load: what was acknowledged is read back, and the time until all is well."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

import aiohttp
import numpy as np
import uvloop

from benchmarks.service.generator import EVENT, Acknowledged, Generator, Outcome, items_of
from benchmarks.service.load import USERS
from benchmarks.service.parts import LOOP, Service, kill

RATE = 25.0  # requests a second
PAUSE_S, LOOP_PAUSE_S = (1.0, 4.0), (3.0, 60.0)  # between two kills, after all is well again; a run needs its start
WELL = 20  # good outcomes in a row after which all is well
LONGEST_S = 180.0
LOOK_S = 0.02


def measure(service: Service, part: str, times: int) -> dict[str, float | None]:
    """Kill a part so many times at random moments."""
    return uvloop.run(_measure(service, part, times))


async def _measure(service: Service, part: str, times: int) -> dict[str, float | None]:
    chance = random.Random(part)
    outcomes: list[Outcome] = []
    seconds: list[float] = []
    items = await items_of(service.urls[0])
    async with Generator(service.urls, USERS, items) as generator:
        load = asyncio.create_task(generator.run_into(outcomes, RATE, repeats_events=True))
        await _until_well(outcomes, 0, time.monotonic())
        for _ in range(times):
            await asyncio.sleep(chance.uniform(*(LOOP_PAUSE_S if part == LOOP else PAUSE_S)))
            seconds.append(await _kill_once(service, part, outcomes))
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    lost, twice = await read_back(service.urls[0], generator.acknowledged)
    lists = [one for one in outcomes if one.kind != EVENT]
    events = [one for one in outcomes if one.kind == EVENT]
    return {
        "kills": times,
        "acknowledged": len(generator.acknowledged),
        "lost": lost,
        "twice": twice,
        "lists": len(lists),
        "degraded_share": sum(one.is_degraded for one in lists) / len(lists),
        "unanswered_share": sum(one.status != 200 for one in lists) / len(lists),
        "events_sent_again_share": sum(one.status != 200 for one in events) / len(events),
        "seconds_to_normal_p50": float(np.median(seconds)),
        "seconds_to_normal_max": max(seconds),
    }


async def _kill_once(service: Service, part: str, outcomes: list[Outcome]) -> float:
    """Kill the part as soon as it is there; returns the seconds until all is well again."""
    until = time.monotonic() + LONGEST_S
    while (pid := service.pid_of(part)) is None:
        if time.monotonic() > until:
            raise RuntimeError(f"the {part} was not started again")
        await asyncio.sleep(LOOK_S)
    place, killed = len(outcomes), time.monotonic()
    kill(pid)
    while service.pid_of(part) == pid:
        await asyncio.sleep(LOOK_S)
    service.start_again(part)
    return await _until_well(outcomes, place, killed)


async def _until_well(outcomes: list[Outcome], place: int, since: float) -> float:
    """Seconds from a moment to the last request that did not go well before a row of those that did."""
    while time.monotonic() - since < LONGEST_S:
        seconds = seconds_to_normal(outcomes[place:], since)
        if seconds is not None:
            return seconds
        await asyncio.sleep(LOOK_S)
    raise RuntimeError(f"not well again after {LONGEST_S:.0f} s")


def seconds_to_normal(outcomes: Sequence[Outcome], since: float) -> float | None:
    """Until the first of WELL good outcomes in a row, by the times at which they had to leave.

    0 where none went wrong, None where there is no such row yet. outcomes: of requests that were answered since.
    """
    ordered = sorted((one for one in outcomes if one.due >= since), key=lambda one: one.due)
    in_a_row = 0
    for place, one in enumerate(ordered):
        in_a_row = in_a_row + 1 if one.is_good else 0
        if in_a_row == WELL:
            first = place - WELL + 1
            return ordered[first].due - since if first else 0.0
    return None


async def read_back(url: str, acknowledged: Sequence[Acknowledged]) -> tuple[int, int]:
    """How many acknowledged events the service does not give back, and how many it gives more than once."""
    stored: Counter[str] = Counter()
    async with aiohttp.ClientSession(url) as session:
        for user in sorted({one.user_id for one in acknowledged}):
            cursor: str | None = "0"
            while cursor is not None:
                async with session.get(f"/v1/users/{user}/data", params={"cursor": cursor}) as response:
                    response.raise_for_status()
                    page = await response.json()
                stored.update(event["event_id"] for event in page["events"])
                cursor = page["next_cursor"]
    counts = [stored[one.event_id] for one in acknowledged]
    return counts.count(0), sum(count > 1 for count in counts)
