"""What is measured of a running system: quality of its lists, latencies, the effect of a like, disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np

from benchmarks.gorse.systems import K, System
from trainer.evaluation import metrics

SECONDS = 30  # of one rate
NUM_EFFECTS, EFFECT_S = 5, 150.0  # people whose like is followed, and the longest wait for its effect
CALL_S = 10.0


def ndcg(ids: Sequence[str], liked: set[str]) -> float:
    """NDCG@10 of one list with binary relevance."""
    gains = [1 / np.log2(place + 2) for place, item in enumerate(ids[:K]) if item in liked]
    return float(sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(K, len(liked)))))


def mean_ndcg(lists: Mapping[str, Sequence[str]], liked: Mapping[str, set[str]]) -> metrics.Interval:
    """NDCG@10 over people, with its interval by bootstrap."""
    return metrics.bootstrap(np.array([ndcg(ids, liked[user]) for user, ids in lists.items()]))


def latencies(system: System, users: Sequence[str], rate: int) -> dict[str, float]:
    """p50 and p99 in milliseconds and the errors of lists that are asked for at set times (an open loop)."""
    found, errors = asyncio.run(_open_loop(system, users, rate))
    return {"p50_ms": float(np.percentile(found, 50)), "p99_ms": float(np.percentile(found, 99)), "errors": errors}


async def _open_loop(system: System, users: Sequence[str], rate: int) -> tuple[list[float], int]:
    chance, milliseconds = np.random.default_rng(rate), []
    limits = httpx.Limits(max_connections=500, max_keepalive_connections=500)

    async def one(client: httpx.AsyncClient, due: float, user: str) -> bool:
        try:
            is_fine = system.is_answer(await client.get(system.path(user)))
        except httpx.TransportError:
            is_fine = False
        milliseconds.append(1000 * (time.monotonic() - due))
        return is_fine

    async with httpx.AsyncClient(base_url=system.url, limits=limits, timeout=CALL_S, trust_env=False) as client:
        due, tasks = time.monotonic(), []
        end = due + SECONDS
        while due < end:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(one(client, due, users[chance.integers(len(users))])))
            due += chance.exponential(1 / rate)
        are_fine = await asyncio.gather(*tasks)
    return milliseconds, len(are_fine) - sum(are_fine)


def is_new_list(before: Sequence[str], liked: str, after: Sequence[str]) -> bool:
    """Whether a list says more than that the liked item has gone from it."""
    kept = [item for item in before if item != liked]
    return list(after[: len(kept)]) != kept


def seconds_to_effect(system: System, client: httpx.Client, users: Sequence[str]) -> dict[str, float | None]:
    """From the acknowledgement of a like of the first item: until it is gone, and until the list is a new one.

    The median of people; None where it has not come within EFFECT_S.
    """
    gone: dict[str, float] = {}
    new: dict[str, float] = {}
    before = {user: system.ask(client, user) for user in users}
    liked_at = {}
    for user in users:
        system.like(client, user, before[user][0])
        liked_at[user] = time.monotonic()
        _look(system, client, user, before[user], liked_at[user], gone, new)
    while len(new) < len(users) and time.monotonic() - max(liked_at.values()) < EFFECT_S:
        for user in users:
            _look(system, client, user, before[user], liked_at[user], gone, new)
        time.sleep(0.05)
    return {"seconds_like_to_gone": _median(gone, len(users)), "seconds_like_to_new_list": _median(new, len(users))}


def _look(
    system: System,
    client: httpx.Client,
    user: str,
    before: Sequence[str],
    liked_at: float,
    gone: dict[str, float],
    new: dict[str, float],
) -> None:
    after = system.ask(client, user)
    seconds = time.monotonic() - liked_at
    if before[0] not in after:
        gone.setdefault(user, seconds)
    if is_new_list(before, before[0], after):
        new.setdefault(user, seconds)


def _median(seconds: Mapping[str, float], count: int) -> float | None:
    ordered = sorted([*seconds.values(), *[np.inf] * (count - len(seconds))])
    middle = ordered[count // 2]
    return float(middle) if np.isfinite(middle) else None


def disk_mb(folder: Path) -> float:
    """Of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
