"""Beside Gorse-in-one: the same events of MovieLens-100K by time, each asked through its own API on this machine.

DIR holds `movielens-100k/` (`./zhiyin data movielens-100k --fetch --output DIR/movielens-100k`) and the program
`gorse-in-one`, built from the Go module github.com/zhenghaoz/gorse v0.4.15 (`go build ./cmd/gorse-in-one` in its
folder). Events before the test period are posted; each person with something new and liked in the test period is asked
for ten films. `quality` trains both anew in DIR/systems (about twenty minutes on two cores); `latency` takes what lies
there, and wants a machine that does nothing else.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.goals import check_cases
from benchmarks.gorse import measures, systems
from benchmarks.gorse.systems import GORSE, LIKED_FROM, System, World
from components.config import SplitConfig
from components.events.splits import quantile_cuts
from components.settings import SettingsError

RATES = (20, 50, 100)  # requests a second
CASES = ("quality", "latency")
GOALS: list[dict[str, Any]] = [
    {"case": "quality", "metric": "NDCG@10", "at_least": 1.0, "of": GORSE},
    {"case": "quality", "metric": "seconds_like_to_new_list", "at_most": 1.0, "of": GORSE},
    *({"case": "latency", "metric": f"p99_ms_at_{rate}rps", "at_most": 1.0, "of": GORSE} for rate in RATES),
]


def run(data_dir: Path | None, cases: Sequence[str] = CASES) -> list[dict[str, Any]]:
    """Rows of both. Raises SettingsError where a part of DIR is missing, or for another case."""
    if data_dir is None or not (data_dir / "gorse-in-one").is_file() or not (data_dir / "movielens-100k").is_dir():
        raise SettingsError(f"--data-dir: got {data_dir}, expected a folder as the docstring of benchmarks/gorse says")
    check_cases(cases, CASES)
    data_dir = data_dir.absolute()
    world, folder = read_world(data_dir / "movielens-100k"), data_dir / "systems"
    if "quality" in cases and folder.is_dir():
        shutil.rmtree(folder)  # what training costs is measured from nothing
    measured: dict[str, Callable[[System, World], list[dict[str, Any]]]] = {"quality": quality, "latency": latency}
    rows = []
    for start in (systems.gorse_of(data_dir / "gorse-in-one"), systems.ours):
        with start(world, folder) as (system, costs):
            if "quality" in cases:
                rows += [_row("quality", system.name, name, value) for name, value in costs.items()]
            for case in cases:
                rows += measured[case](system, world)
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


def quality(system: System, world: World) -> list[dict[str, Any]]:
    """NDCG@10 of people with something new and liked in the test period, seconds to an effect, memory and disk."""
    case = "quality"
    with httpx.Client(base_url=system.url, timeout=30, trust_env=False) as client:
        found = measures.mean_ndcg({user: system.ask(client, user) for user in world.liked_after}, world.liked_after)
        effects = measures.seconds_to_effect(system, client, sorted(world.seen)[: measures.NUM_EFFECTS])
    return [
        _row(case, system.name, "NDCG@10", found.value, found.low, found.high),
        *(_row(case, system.name, name, value) for name, value in effects.items()),
        _row(case, system.name, "memory_mb", sum(map(systems.resident_mb, system.pids()))),
        _row(case, system.name, "disk_mb", measures.disk_mb(system.folder)),
    ]


def latency(system: System, world: World) -> list[dict[str, Any]]:
    """Milliseconds of lists at each rate."""
    rows = []
    for rate in RATES:
        found = measures.latencies(system, sorted(world.seen), rate)
        rows += [_row("latency", system.name, f"{name}_at_{rate}rps", value) for name, value in found.items()]
    return rows


def _row(
    case: str, contender: str, metric: str, value: float | None, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    return {"case": case, "contender": contender, "metric": metric, "value": value, "low": low, "high": high, "runs": 1}
