"""Beside Gorse-in-one: the same events of MovieLens-100K by time, each asked through its own API on this machine.

DIR holds `movielens-100k/` (`./zhiyin data movielens-100k --fetch --output DIR/movielens-100k`) and the program
`gorse-in-one`, built from the Go module github.com/zhenghaoz/gorse v0.4.15 (`go build ./cmd/gorse-in-one` in its
folder). Events before the test period are posted; each person with something new and liked in the test period is asked
for ten films. About twenty minutes on two cores.
"""

from __future__ import annotations

import asyncio
import csv
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.gorse import systems
from benchmarks.gorse.systems import GORSE, LIKED_FROM, K, System, World
from components.config import SplitConfig
from components.events.splits import quantile_cuts
from components.settings import SettingsError
from trainer.evaluation import metrics

RATES, SECONDS = (20, 50, 100), 30
EFFECT_S = 180.0  # longest wait for a changed list
GOALS: list[dict[str, Any]] = [
    {"case": "movielens-100k", "metric": "NDCG@10", "at_least": 1.0, "of": GORSE},
    {"case": "movielens-100k", "metric": "seconds_like_to_list", "at_most": 1.0, "of": GORSE},
    *({"case": f"{rate}rps", "metric": "p99_ms", "at_most": 1.0, "of": GORSE} for rate in RATES),
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of both. Raises SettingsError where a part of DIR is missing."""
    if data_dir is None or not (data_dir / "gorse-in-one").is_file() or not (data_dir / "movielens-100k").is_dir():
        raise SettingsError(f"--data-dir: got {data_dir}, expected a folder as the docstring of benchmarks/gorse says")
    world = read_world(data_dir / "movielens-100k")
    rows = []
    with tempfile.TemporaryDirectory(prefix="zhiyin-gorse-") as folder:
        for start in (systems.gorse_of(data_dir / "gorse-in-one"), systems.ours):
            with start(world, Path(folder)) as (system, costs):
                rows += [_row("movielens-100k", system.name, name, value) for name, value in costs.items()]
                rows += measure(system, world)
    return rows


def read_world(folder: Path) -> World:
    """Cut the events where `zhiyin run` cuts them by default: the last tenth is the test period."""
    with (folder / "events.csv").open(encoding="utf-8", newline="") as file:
        events = sorted(csv.DictReader(file), key=lambda event: int(event["timestamp"]))
    counts = sorted(Counter(int(event["timestamp"]) for event in events).items())
    cut = quantile_cuts(counts, SplitConfig()).test_from
    seen, liked_after = defaultdict(set), defaultdict(set)
    for event in events:
        if int(event["timestamp"]) < cut:
            seen[event["user_id"]].add(event["item_id"])
        elif float(event["value"]) >= LIKED_FROM:
            liked_after[event["user_id"]].add(event["item_id"])
    new = {user: items - seen[user] for user, items in liked_after.items() if items - seen[user]}
    return World(folder, [event for event in events if int(event["timestamp"]) < cut], dict(seen), new)


def measure(system: System, world: World) -> list[dict[str, Any]]:
    """Quality, latencies, seconds from a like to a changed list, memory and disk."""
    case, rows = "movielens-100k", []
    with httpx.Client(base_url=system.url, timeout=30, trust_env=False) as client:
        values = [ndcg(system.ask(client, user), liked) for user, liked in world.liked_after.items()]
        interval = metrics.bootstrap(np.array(values))
        rows.append(_row(case, system.name, "NDCG@10", interval.value, interval.low, interval.high))
        for rate in RATES:
            found = asyncio.run(open_loop(system, sorted(world.seen), rate))
            rows += [_row(f"{rate}rps", system.name, name, value) for name, value in found.items()]
        effects = [seconds_to_effect(system, client, user) for user in sorted(world.seen)[:5]]
        rows.append(_row(case, system.name, "seconds_like_to_list", float(np.median(effects))))
    rows.append(_row(case, system.name, "memory_mb", sum(map(systems.resident_mb, system.pids()))))
    rows.append(
        _row(
            case, system.name, "disk_mb", sum(f.stat().st_size for f in system.folder.rglob("*") if f.is_file()) / 2**20
        )
    )
    return rows


def ndcg(ids: Sequence[str], liked: set[str]) -> float:
    """NDCG@10 of one list with binary relevance."""
    gains = [1 / np.log2(place + 2) for place, item in enumerate(ids[:K]) if item in liked]
    return float(sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(K, len(liked)))))


async def open_loop(system: System, users: Sequence[str], rate: int) -> dict[str, float]:
    """Lists asked for at set times, whether or not earlier answers have come."""
    chance, latencies, errors = np.random.default_rng(rate), [], 0
    limits = httpx.Limits(max_connections=500, max_keepalive_connections=500)

    async def one(client: httpx.AsyncClient, due: float, user: str) -> None:
        nonlocal errors
        try:
            response = await client.get(system.path(user))
            errors += response.status_code != 200
        except httpx.TransportError:
            errors += 1
        latencies.append(1000 * (time.monotonic() - due))

    async with httpx.AsyncClient(base_url=system.url, limits=limits, timeout=10, trust_env=False) as client:
        due, tasks = time.monotonic(), []
        end = due + SECONDS
        while due < end:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(one(client, due, users[chance.integers(len(users))])))
            due += chance.exponential(1 / rate)
        await asyncio.gather(*tasks)
    return {
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "errors": errors,
    }


def seconds_to_effect(system: System, client: httpx.Client, user: str) -> float:
    """From the acknowledgement of a like of the first item to a list that is another; EFFECT_S where it stays as it
    was."""
    before = system.ask(client, user)
    system.like(client, user, before[0])
    liked = time.monotonic()
    while time.monotonic() - liked < EFFECT_S:
        if system.ask(client, user) != before:
            return time.monotonic() - liked
        time.sleep(0.02)
    return EFFECT_S


def _row(
    case: str, contender: str, metric: str, value: float, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    return {"case": case, "contender": contender, "metric": metric, "value": value, "low": low, "high": high, "runs": 1}
