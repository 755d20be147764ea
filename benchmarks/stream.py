"""Events through a Kafka broker that is killed: how many are lost or come twice, how many go through a second, and what
a run makes of them.

100,000 events leave a SQLite store for a topic and come into another; the broker gets a kill -9 at a random moment of
either way and is started again. Counted is what a run reads of the second store; then `zhiyin run` trains on it, over a
made catalogue, to a pushed model, and its account of the events is compared with their number. Cost: some 8 minutes;
needs java and Kafka's jars (KAFKA_HOME).
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.broker import MISSING, Broker, is_installed
from benchmarks.goals import check_cases
from components.account import ACCEPTED, COPIES, REJECTED
from components.interpreter import module_command, module_environment
from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.config import STORE_SOURCE
from pipeline.event_stream import Progress, Publisher, Rejects, Taker
from pipeline.kafka_topic import Reader, StreamUnavailable, Topic
from pipeline.run_history import RunRecord, read_runs
from serving.gateway.privacy import Pseudonyms
from serving.gateway.records import Event
from serving.gateway.stores.base import Store, open_store

NUM_EVENTS, NUM_PEOPLE, NUM_ITEMS = 100_000, 5_000, 1_000
CASE, RUN = "100k", "run"
FIRST_S = 1_700_000_000
TRIES = 100
GOALS: list[dict[str, Any]] = [
    {"case": CASE, "metric": "lost", "at_most": 0},
    {"case": CASE, "metric": "twice", "at_most": 0},
    {"case": RUN, "metric": "missing", "at_most": 0},
    {"case": RUN, "metric": "too_many", "at_most": 0},
    {"case": RUN, "metric": "pushed", "at_least": 1},
]

STORE = "store.sqlite"
SETTINGS = {  # of the run: as light as it can be, for its lists are not judged; who chose what is drawn evenly
    "name": "streamed",
    "retrieval": {"embedding_dim": 16, "epochs": 2, "content_epochs": 0},
    "refit": False,
    "evaluation": {"min_gain_over_popularity": -1.0, "max_loss_to_last": 1.0},
}

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


def run(data_dir: Path | None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the cases. data_dir: ignored. Raises SettingsError for another case, and where Kafka is not there."""
    check_cases(cases, (CASE, RUN))
    if not is_installed():
        raise SettingsError(f"stream {MISSING}")
    chance, rows = random.Random(0), []
    given = list(_events(chance))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outbox, work = folder / "outbox.sqlite", folder / "killed"
        asyncio.run(_on_store(outbox, lambda store: _fill(store, given)))
        seconds = {}
        broker = Broker(folder / "kafka")
        try:
            if not cases or CASE in cases:
                seconds[", no restart"] = _seconds_of_both(broker, "quiet", outbox, folder / "quiet", ())
            restarts = [Restart(broker, chance.randrange(NUM_EVENTS // 10, 9 * NUM_EVENTS // 10)) for _ in range(2)]
            seconds[""] = _seconds_of_both(broker, "killed", outbox, work, restarts)
            messages = _num_messages(Topic(broker.address, "killed"))
        finally:
            broker.stop()
        config = _configured(work)
        if not cases or CASE in cases:
            made = ((one.user_id, one.item_id, one.time_s or 0) for one in given)
            lost, twice = compared(made, _read_by_a_run(config))
            values: dict[str, float] = {"lost": lost, "twice": twice, "sent_again": messages - NUM_EVENTS}
            for how, (publish_s, take_s) in seconds.items():
                values[f"publish_events_per_s{how}"] = NUM_EVENTS / publish_s
                values[f"take_events_per_s{how}"] = NUM_EVENTS / take_s
            rows += [_row(CASE, metric, value) for metric, value in values.items()]
        if not cases or RUN in cases:
            command = module_command("pipeline.cli", "run", "--config", str(config))
            subprocess.run(command, env=module_environment(), check=True)
            rows += [_row(RUN, metric, value) for metric, value in in_the_run(read_runs(work)[-1]).items()]
    return rows


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


def _configured(work: Path) -> Path:
    """A catalogue of all items, and a configuration of a run over the events of the store in its work folder."""
    catalogue, file = work / "catalogue.csv", work / "streamed.yaml"
    with catalogue.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("item_id", "title", "creator", "tags"))
        table.writerows(
            (f"i{number}", f"Title {number}", f"c{number % 50}", f"t{number % 7}") for number in range(NUM_ITEMS)
        )
    data = {
        "catalogue": {"path": str(catalogue)},
        "events": {"path": f"{STORE_SOURCE}{work / STORE}"},
        "event_rules": {"play": {"positive": True}},
    }
    file.write_text(yaml.safe_dump({**SETTINGS, "work_dir": str(work), "data": data}), encoding="utf-8")
    return file


def _read_by_a_run(config: Path) -> Iterable[Row]:
    """The events that a run reads of its store."""
    path = store_tables.resolved(configuration.load(config)).data.events.path
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield row["user_id"], row["item_id"], row["timestamp"]


def in_the_run(run: RunRecord) -> dict[str, int]:
    """What a run says of its events, how far that is from all, and whether it pushed a model."""
    folder = run.output("EventGen", "rejects")
    if folder is None:
        raise RuntimeError(f"the run has no account of its events: {run.failed} failed")
    account = account_of(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    off = NUM_EVENTS - sum(account.values())
    return account | {"missing": max(off, 0), "too_many": max(-off, 0), "pushed": int(bool(run.version))}


def account_of(summary: Mapping[str, Any]) -> dict[str, int]:
    """How many rows of a table's summary were accepted, how many rejected, how many exact copies."""
    rejected, copies = sum(summary["rejects"].values()), summary["notes"].get(COPIES, 0)
    return {ACCEPTED: summary["accepted"], REJECTED: rejected, COPIES: copies}


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


def _row(case: str, metric: str, value: float) -> dict[str, Any]:
    return {"case": case, "contender": "ours", "metric": metric, "value": value, "low": value, "high": value, "runs": 1}
