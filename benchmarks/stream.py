"""Events through a Kafka broker that is killed: how many are lost or come twice, and how many go through a second.

100,000 events leave a SQLite store for a topic and come into another; the broker gets a kill -9 at a random moment of
either way and is started again. Counted is what a run would read of the second store. Cost: some 3 minutes; needs java
and Kafka's jars (KAFKA_HOME).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.broker import MISSING, Broker, is_installed
from components.config import DataConfig, EventRule, TableConfig
from components.settings import SettingsError
from pipeline import store_tables
from pipeline.config import Config
from pipeline.event_stream import Progress, Publisher, Rejects, Taker
from pipeline.kafka_topic import Reader, StreamUnavailable, Topic
from serving.config import EvaluationConfig
from serving.gateway.privacy import Pseudonyms
from serving.gateway.records import Event
from serving.gateway.stores.base import Store, open_store

NUM_EVENTS, NUM_PEOPLE, NUM_ITEMS = 100_000, 5_000, 1_000
CASE = "100k"
FIRST_S = 1_700_000_000
TRIES = 100
GOALS: list[dict[str, Any]] = [
    {"case": CASE, "metric": "lost", "at_most": 0},
    {"case": CASE, "metric": "twice", "at_most": 0},
]

STORE = "store.sqlite"

Work = Callable[[], Awaitable[Counter[str]]]
Row = tuple[str, str, int]  # person, item, time: each of them once


class Restart:
    """Kills the broker after so many events, and starts it again while the client waits."""

    def __init__(self, broker: Broker, after: int) -> None:
        self._broker, self._left = broker, after
        self._starting = threading.Thread(target=broker.start)

    def __call__(self, count: int) -> None:
        """So many events more have gone through."""
        if 0 < self._left <= count:
            self._broker.kill()
            self._starting.start()
        self._left -= count

    def join(self) -> None:
        """Returns when the broker is there again. Raises RuntimeError where it was never killed."""
        self._starting.join()


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of evaluation.md. data_dir: ignored."""
    if not is_installed():
        raise SettingsError(f"stream {MISSING}")
    chance = random.Random(0)
    given = list(_events(chance))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outbox = folder / "outbox.sqlite"
        asyncio.run(_on_store(outbox, lambda store: _fill(store, given)))
        broker = Broker(folder / "kafka")
        try:
            quiet = _seconds_of_both(broker, "quiet", outbox, folder / "quiet", ())
            restarts = [Restart(broker, chance.randrange(NUM_EVENTS // 10, 9 * NUM_EVENTS // 10)) for _ in range(2)]
            killed = _seconds_of_both(broker, "killed", outbox, folder / "killed", restarts)
            messages = _num_messages(Topic(broker.address, "killed"))
        finally:
            broker.stop()
        read = list(_read_by_a_run(folder / "killed"))
    lost, twice = compared(((one.user_id, one.item_id, one.time_s or 0) for one in given), read)
    values = {"lost": lost, "twice": twice, "sent_again": messages - NUM_EVENTS}
    for name, (publish_s, take_s) in {"": killed, ", no restart": quiet}.items():
        values[f"publish_events_per_s{name}"] = NUM_EVENTS / publish_s
        values[f"take_events_per_s{name}"] = NUM_EVENTS / take_s
    return [_row(metric, value) for metric, value in values.items()]


def _seconds_of_both(
    broker: Broker, name: str, outbox: Path, folder: Path, restarts: Sequence[Restart]
) -> tuple[float, float]:
    """Seconds to send everything to a new topic, and to take it into a new store of a work folder."""
    folder.mkdir()
    topic, plain = Topic(broker.address, broker.make_topic(name)), Pseudonyms()
    rejects = Rejects(folder / "rejects.jsonl")
    out, inward = restarts or (_nothing, _nothing)
    ways: list[tuple[Path, Callable[[Store], Work], Progress]] = [
        (outbox, lambda store: Publisher(store, topic, plain, out), out),
        (folder / STORE, lambda store: Taker(store, topic, ("play",), plain, rejects, inward), inward),
    ]
    seconds = []
    for path, work_on, progress in ways:
        started = time.monotonic()
        asyncio.run(_on_store(path, lambda store, work_on=work_on: _until_done(work_on(store))))  # type: ignore[misc]
        seconds.append(time.monotonic() - started)
        if isinstance(progress, Restart):
            progress.join()
    return seconds[0], seconds[1]


async def _until_done(work: Work) -> None:
    """Run a client again where it gave up waiting for the broker."""
    for _ in range(TRIES):
        try:
            await work()
            return
        except StreamUnavailable as error:
            print(f"run again: {error}")
    raise RuntimeError(f"it has not gone through in {TRIES} times")


def compared(given: Iterable[Row], read: Iterable[Row]) -> tuple[int, int]:
    """How many of the given rows were not read, and how many more than once. Raises ValueError for one not given."""
    counts, wanted = Counter(read), set(given)
    if strange := counts.keys() - wanted:
        raise ValueError(f"read, but never given: {sorted(strange)[:3]}")
    return sum(row not in counts for row in wanted), sum(count > 1 for count in counts.values())


def _num_messages(topic: Topic) -> int:
    reader = Reader(topic, "counts")
    try:
        return sum(span.end - span.start for span in reader.spans().values())
    finally:
        reader.close()


def _read_by_a_run(work: Path) -> Iterable[Row]:
    """The events that a run reads of the store in its work folder."""
    data, evaluation = (
        DataConfig(TableConfig(""), TableConfig("")),
        EvaluationConfig(min_gain_over_popularity=0.0, max_loss_to_last=0.0),
    )
    config = Config(
        "streamed", replace(data, event_rules={"play": EventRule(positive=True)}), evaluation, work_dir=str(work)
    )
    path = store_tables.resolved(store_tables.with_store(config, str(work / STORE))).data.events.path
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield row["user_id"], row["item_id"], row["timestamp"]


async def _on_store(path: Path, work: Callable[[Store], Awaitable[None]]) -> None:
    store = open_store(str(path))
    await store.open()
    try:
        await work(store)
    finally:
        await store.close()


async def _fill(store: Store, events: Sequence[Event]) -> None:
    for start in range(0, len(events), 1000):
        await store.add_events(events[start : start + 1000])


def _events(chance: random.Random) -> Iterable[Event]:
    for number in range(NUM_EVENTS):
        person, item = chance.randrange(NUM_PEOPLE), chance.randrange(NUM_ITEMS)
        yield Event(f"e{number}", f"u{person}", f"i{item}", "play", FIRST_S + number)


def _nothing(count: int) -> None:
    del count


def _row(metric: str, value: float) -> dict[str, Any]:
    return {"case": CASE, "contender": "ours", "metric": metric, "value": value, "low": value, "high": value, "runs": 1}
