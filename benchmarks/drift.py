"""How often a drift is told of a world that shifts half way, and of one that does not.

A made world: items with a domain, a length and a summary of their sound, people with a taste over domains. A run sees
the first half, the next one the second: other people, three in ten items new. In `sound` the new items sound otherwise,
in `taste` people turn to other domains, in `moves` both, in `stays` nothing changes. Statistics are TFDV's of the made
tables, the limits are the defaults. Cost on two cores: two minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import check_cases, row_of
from pipeline.drift.check import Drift
from pipeline.drift.config import DriftConfig
from pipeline.drift.measures import Measure, compare
from pipeline.drift.snapshot import CONTENT_DIM, Contents, Snapshot

SEEDS = range(20)
WORLDS = ("moves", "sound", "taste", "stays")
DOMAINS = np.array(["music", "film", "video", "game", "course"])
ITEMS, NEW_ITEMS, PEOPLE, EVENTS = 1000, 300, 400, 20_000
SOUND_SPREAD = 30.0  # standard deviation of a mel band between items
EVENT_KINDS, KIND_CHANCES = ("play", "complete", "like", "skip"), (0.6, 0.2, 0.1, 0.1)
GOALS: list[dict[str, Any]] = [
    {"case": "moves", "metric": "told", "at_least": 0.95},
    {"case": "stays", "metric": "told", "at_most": 0.05},
]


@dataclass(frozen=True)
class World:
    """A half of a made world."""

    domains: np.ndarray  # str [items]
    lengths_s: np.ndarray  # float [items]
    sounds: np.ndarray  # float32 [items, CONTENT_DIM]
    appeal: np.ndarray  # float [items], how often an item is taken among those of its domain
    tastes: np.ndarray  # float [domains], the mean share of each among people's interactions


def run(data_dir: Path | None, cases: Sequence[str] = WORLDS) -> list[dict[str, Any]]:
    """The share of seeds of which a drift is told, by world, all measures together and each by itself."""
    check_cases(cases, WORLDS)
    rows = []
    for world in cases:
        found = [measured(world, seed) for seed in SEEDS]
        told = [bool(Drift("first", measures).exceeded) for measures in found]
        rows.append(row_of(world, "ours", "told", *told))
        for name in [measure.name for measure in found[0]]:
            rows.append(
                row_of(world, "ours", f"told by {name}", *(_of(measures, name).is_exceeded for measures in found))
            )
            values = [_of(measures, name).value for measures in found]
            rows.append(row_of(world, "ours", f"mean {name}", *values))
            rows.append(row_of(world, "ours", f"largest {name}", max(values)))
    return rows


def measured(world: str, seed: int) -> list[Measure]:
    """How far the second half of a world is from the first."""
    generator = np.random.default_rng([seed, WORLDS.index(world)])
    first = make(generator)
    second = continued(first, generator, world in ("moves", "sound"), world in ("moves", "taste"))
    return compare(snapshot(first, generator, "first"), snapshot(second, generator, "second"), DriftConfig())


def make(generator: np.random.Generator) -> World:
    """A first half."""
    return World(
        DOMAINS[generator.integers(len(DOMAINS), size=ITEMS)],
        generator.lognormal(5, 0.6, ITEMS),
        generator.normal(120, SOUND_SPREAD, (ITEMS, CONTENT_DIM)).astype(np.float32),
        generator.pareto(1.5, ITEMS) + 0.1,
        generator.dirichlet(np.full(len(DOMAINS), 10.0)),
    )


def continued(world: World, generator: np.random.Generator, sound_moves: bool, taste_moves: bool) -> World:
    """The second half: items leave and come.

    Where the sound moves, what comes is louder in every band by two standard deviations; where taste moves, the domains
    swap their shares, the largest with the smallest and so on.
    """
    stay = generator.permutation(ITEMS)[NEW_ITEMS:]
    come = make(generator)
    new = np.arange(NEW_ITEMS)
    louder = 2 * SOUND_SPREAD if sound_moves else 0.0
    return World(
        np.concatenate([world.domains[stay], come.domains[new]]),
        np.concatenate([world.lengths_s[stay], come.lengths_s[new]]),
        np.concatenate([world.sounds[stay], come.sounds[new] + louder]),
        np.concatenate([world.appeal[stay], come.appeal[new]]),
        np.sort(world.tastes)[::-1][np.argsort(np.argsort(world.tastes))] if taste_moves else world.tastes,
    )


def snapshot(world: World, generator: np.random.Generator, name: str) -> Snapshot:
    """What a run would record of a half: its tables' statistics, contents and interactions."""
    import pandas as pd
    import tensorflow_data_validation as tfdv

    people = generator.dirichlet(world.tastes * 20 + 0.05, PEOPLE)
    wanted = np.array(
        [generator.choice(len(DOMAINS), p=people[who]) for who in generator.integers(PEOPLE, size=EVENTS)]
    )
    items = np.zeros(EVENTS, np.int64)
    for place, domain in enumerate(DOMAINS):
        of_domain = np.flatnonzero(world.domains == domain)
        chances = world.appeal[of_domain] / world.appeal[of_domain].sum()
        items[wanted == place] = generator.choice(of_domain, (wanted == place).sum(), p=chances)
    counts = np.bincount(items, minlength=len(world.domains))
    catalog = pd.DataFrame({"domain": world.domains, "duration_s": world.lengths_s})
    events = pd.DataFrame({"event": generator.choice(EVENT_KINDS, EVENTS, p=KIND_CHANCES)})
    statistics = {
        "catalog": tfdv.generate_statistics_from_dataframe(catalog),
        "events": tfdv.generate_statistics_from_dataframe(events),
    }
    ids = [str(row) for row in range(len(counts))]
    return Snapshot(name, statistics, Contents(ids, world.domains.tolist(), world.sounds, counts), counts, None)


def _of(measures: list[Measure], name: str) -> Measure:
    return next(measure for measure in measures if measure.name == name)
