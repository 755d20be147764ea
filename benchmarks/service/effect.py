"""Event to effect: a like, then the person's next list."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import numpy as np
import uvloop

from benchmarks.service.load import USERS
from benchmarks.service.parts import Service

UNHURRIED = {"X-Budget-Ms": "5000"}  # no list stands in for the model's: a late one is told by its milliseconds


def measure(service: Service, times: int) -> dict[str, float | None]:
    """So many likes: the share that counted in the next list, and the milliseconds from acknowledgement to that list.

    A like has counted where the next list is the model's, lacks the liked item, and has another order or other items.
    """
    return uvloop.run(_measure(service.urls[0], times))


async def _measure(url: str, times: int) -> dict[str, float | None]:
    milliseconds, counted, degraded, name = [], 0, 0, f"{time.time_ns():x}"
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=30)) as session:
        for number in range(times):
            user = USERS[number // 2 % len(USERS)] if number % 2 else f"effect-{name}-{number}"
            before = await _list(session, user)
            liked = before["items"][number % len(before["items"])]["item_id"]
            event = {"user_id": user, "item_id": liked, "event": "like"}
            async with session.post("/v1/events", json=event) as response:
                response.raise_for_status()
                await response.read()
            acknowledged = time.monotonic()
            after = await _list(session, user)
            milliseconds.append(1000 * (time.monotonic() - acknowledged))
            degraded += after["degraded"] is not None
            counted += has_counted(before, liked, after)
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return {
        "likes": times,
        "counted_share": counted / times,
        "degraded": degraded,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "max_ms": max(milliseconds),
    }


def has_counted(before: dict[str, Any], liked: str, after: dict[str, Any]) -> bool:
    """Whether the answer after a like rests on it: the liked item is gone, as an item of the history is."""
    ids = [item["item_id"] for item in after["items"]]
    return bool(ids) and liked not in ids and ids != [item["item_id"] for item in before["items"]]


async def _list(session: aiohttp.ClientSession, user: str) -> dict[str, Any]:
    async with session.get(f"/v1/users/{user}/recommendations", headers=UNHURRIED) as response:
        response.raise_for_status()
        return await response.json()
