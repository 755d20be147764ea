"""How often a skew between training and serving is told of people who ask as in training, and of other publics.

The finished demo behind a real gateway (`--data-dir`: the folder in which `zhiyin demo` was run). People of training
ask once more under new names: their events before the last one are posted with the ages that they had then, and a
list is asked for. In `as_trained` that is all; in `domains` histories hold one domain alone, in `short` their last two
interactions, in `unknown` four items in ten are none that the model knows. 250 people a seed, drawn with replacement;
limits are the defaults. Cost on two busy cores: 25 minutes.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.goals import check_cases, row_of
from benchmarks.service.parts import ROOT, Service, Setup, service_of
from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.drift.asked import asked_requests
from pipeline.drift.measures import Measure
from pipeline.drift.requests import KnownItems, Request, statistics_of
from pipeline.drift.skew import skew_measures, vector_measure
from pipeline.drift.trained import TrainedVersion
from pipeline.lineage import parts_of_version
from pipeline.local_model import newest_version
from serving.gateway.stores.base import open_store

SEEDS = range(20)
CASES = ("as_trained", "domains", "short", "unknown")
PEOPLE = 250
UNKNOWN_SHARE, SHORT = 0.4, 2
EVENTS_AT_ONCE = 1000
UNHURRIED = {"X-Budget-Ms": "5000"}  # no list stands in for the model's
WRITTEN_S = 30.0  # for the gateway to log the last list
GOALS: list[dict[str, Any]] = [
    {"case": "as_trained", "metric": "told", "at_most": 0.05},
    *({"case": case, "metric": "told", "at_least": 0.95} for case in CASES[1:]),
    {"case": "export", "metric": "difference of vectors", "at_most": 1e-5},
]


def run(data_dir: Path | None, cases: Sequence[str] = CASES) -> list[dict[str, Any]]:
    """The share of seeds of which a skew is told, by case, all measures together and each by itself."""
    check_cases(cases, CASES)
    if data_dir is None:
        raise SettingsError("--data-dir: the folder in which ./zhiyin demo was run")
    demo = configuration.load(ROOT / "configs" / "demo.yaml")
    demo = replace(demo, work_dir=str(data_dir.absolute() / "runs" / "demo"))
    version = newest_version(demo.serving_path / demo.name)
    trained = TrainedVersion.of(
        version, parts_of_version(demo.work_path, demo.name, version.name), demo.data.history_length
    )
    if trained is None:
        raise SettingsError(f"--data-dir: what version {version.name} was made from is not there")
    rows = []
    vectors = vector_measure(trained.vector_difference(), demo.drift)
    if vectors:
        rows.append(row_of("export", "ours", "difference of vectors", vectors.value))
    people, items = trained.requests(), trained.known_items()
    reference = statistics_of(people, items, demo.data.history_length)
    with tempfile.TemporaryDirectory() as folder, service_of(data_dir, Path(folder) / "service", _setup()) as service:
        for case in cases:
            found = [
                list(skew_measures(reference, statistics_of(asked, items, demo.data.history_length), demo.drift))
                for asked in (ask(service, demo, case, seed, people, items, int(version.name)) for seed in SEEDS)
            ]
            rows += _rows(case, found)
    return rows


def ask(
    service: Service,
    config: configuration.Config,
    case: str,
    seed: int,
    people: Sequence[Request],
    items: KnownItems,
    version: int,
) -> list[Request]:
    """Post the histories of a public and ask for its lists; returns what the store says was asked."""
    generator, prefix = np.random.default_rng([seed, CASES.index(case)]), f"{case}-{seed}-"
    drawn = [changed(people[row], case, items, generator) for row in generator.integers(len(people), size=PEOPLE)]
    now_s = int(time.time())
    events = [
        {"user_id": f"{prefix}{number}", "item_id": item, "event": event, "timestamp": now_s - int(age_s)}
        for number, one in enumerate(drawn)
        for item, event, age_s in zip(one.history or (), one.events, one.ages_s)
    ]
    with httpx.Client(base_url=service.urls[0], timeout=60, trust_env=False, headers=UNHURRIED) as http:
        for start in range(0, len(events), EVENTS_AT_ONCE):
            http.post("/v1/events", json={"events": events[start : start + EVENTS_AT_ONCE]}).raise_for_status()
        for number in range(PEOPLE):
            http.get(f"/v1/users/{prefix}{number}/recommendations").raise_for_status()
    return asyncio.run(_read(service.store, config, prefix, version))


def changed(person: Request, case: str, items: KnownItems, generator: np.random.Generator) -> Request:
    """A person of the training data as one of a public."""
    history = np.array(person.history, object)
    kept = np.ones(len(history), bool)
    if case == "domains":
        kept = np.array([items.domains.get(item) == "music" for item in history], bool)
    if case == "short":
        kept[:-SHORT] = False
    if case == "unknown":
        others = generator.random(len(history)) < UNKNOWN_SHARE
        history = np.where(others, "elsewhere-" + history, history)
    return Request(
        tuple(history[kept]),
        tuple(event for event, is_kept in zip(person.events, kept) if is_kept),
        tuple(age_s for age_s, is_kept in zip(person.ages_s, kept) if is_kept),
        (),
    )


async def _read(url: str, config: configuration.Config, prefix: str, version: int) -> list[Request]:
    """The requests of people of a prefix, once their lists are logged. Raises RuntimeError where they are not."""
    store = open_store(url)
    await store.open()
    try:
        until = time.monotonic() + WRITTEN_S
        while True:
            shown = [one async for one in store.exposures() if one.user_id.startswith(prefix)]
            shown = [one for one in shown if one.model_version == version]
            if len(shown) == PEOPLE:
                return await asked_requests(store, shown, config.data.event_rules, config.gateway.history_events)
            if time.monotonic() > until:
                raise RuntimeError(f"{prefix}: {len(shown)} of {PEOPLE} lists of the model are logged")
            await asyncio.sleep(0.2)
    finally:
        await store.close()


def _setup() -> Setup:
    return Setup(settings=(("rate_limit_per_s", 1e6), ("rate_limit_burst", 1_000_000)))


def _rows(case: str, found: Sequence[Sequence[Measure]]) -> Iterator[dict[str, Any]]:
    yield row_of(case, "ours", "told", *(any(measure.is_exceeded for measure in measures) for measures in found))
    for name in dict.fromkeys(measure.name for measures in found for measure in measures):
        of_name = [measure for measures in found for measure in measures if measure.name == name]
        yield row_of(case, "ours", f"told by {name}", *(measure.is_exceeded for measure in of_name))
        yield row_of(case, "ours", f"mean {name}", *(measure.value for measure in of_name))
        yield row_of(case, "ours", f"largest {name}", max(measure.value for measure in of_name))
