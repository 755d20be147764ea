"""Stores, topics and clients for the tests of events through a real Kafka broker."""

import itertools
import json
import threading
import time
from collections import defaultdict

import pytest

from benchmarks import broker as brokers
from pipeline.event_stream import Publisher, Rejects, Taker
from pipeline.kafka_topic import OutMessage, Reader, StreamUnavailable, Writer
from serving.gateway.privacy import Pseudonyms
from serving.gateway.records import Event
from serving.gateway.stores.base import StoreUnavailable
from tests.serving.gateway import running

KINDS = ("play", "like", "rating")
OLD, NEW = b"o" * 32, b"n" * 32
NUMBERS = itertools.count()
TRIES = 100  # of a client that is run again; where a machine stops for minutes, waiting for a broker comes to an end
NOW_S = 1_700_000_000
needs_kafka = pytest.mark.skipif(not brokers.is_installed(), reason=brokers.MISSING)


def of_nobody(count):
    del count


def made(count):
    """Events of seven people, of every shape that a store holds."""
    return [
        Event(
            f"e{n}",
            f"person {n % 7} ü",
            f"i{n % 5}",
            KINDS[n % 3],
            None if n % 10 == 9 else NOW_S + n,
            n / 3 if n % 3 == 2 else None,
            f"r{n}" if n % 4 == 0 else "",
        )  # fmt: skip
        for n in range(count)
    ]


def fill(url, events):
    running.run(lambda store: store.add_events(events), url)
    return events


def events_of(url):
    async def go(store):
        return [event async for event in store.events()]

    return running.run(go, url)


def publish(url, topic, pseudonyms=None, progress=of_nobody):
    return running.run(lambda store: Publisher(store, topic, pseudonyms or Pseudonyms(), progress)(), url)


def take(url, topic, folder, pseudonyms=None, progress=of_nobody, kinds=KINDS):
    rejects = Rejects(folder / "rejects.jsonl")
    return running.run(lambda store: Taker(store, topic, kinds, pseudonyms or Pseudonyms(), rejects, progress)(), url)


def again_and_again(client):
    """What a client returns at last that is run again where a broker was away for too long."""
    for _ in range(TRIES):
        try:
            return client()
        except (StreamUnavailable, StoreUnavailable):
            time.sleep(0.5)
    raise AssertionError(f"it has not gone through in {TRIES} times")


def write(topic, *values, headers=()):
    """Messages of another producer."""
    whole = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    Writer(topic, of_nobody).write([OutMessage(b"key", value, list(headers)) for value in whole])


def messages_of(topic):
    reader = Reader(topic, "looks-only")
    found = [message for piece in reader.messages(reader.spans()) for message in piece]
    reader.close()
    return found


def by_person(events):
    ordered = defaultdict(list)
    for event in events:
        ordered[event.user_id].append(event)
    return ordered


def rejects_in(folder):
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


class Restart(threading.Thread):
    """Kills the broker when so many events have gone through, and starts it again beside the client."""

    def __init__(self, broker, after):
        super().__init__()
        self._broker, self._left = broker, after

    def __call__(self, count):
        self._left -= count
        if self._left <= 0 and not self.was_there:
            self._broker.kill()
            self.start()

    @property
    def was_there(self):
        return self.ident is not None

    def run(self):
        self._broker.start()
