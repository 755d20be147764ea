"""Events from a store into a Kafka topic, and from a topic into a store: none lost, none twice.

Out, the store's table of events is the outbox (the transactional outbox pattern): events leave in the order of their
acceptance, in batches, and a batch begins only when the one before was acknowledged whole. Every message carries the
number with which its batch began; the largest in the topic is where one goes on. What is sent twice so has one
`event_id`, and a store takes it once. In, a group's places are committed after the store has acknowledged.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.settings import SettingsError
from pipeline.kafka_topic import OutMessage, Reader, Span, StreamUnavailable, Topic, Writer, place_of
from serving.gateway.judging import Arrival, judged, refused, user_id_of
from serving.gateway.privacy import Pseudonyms, Tombstones, marks_of, tombstones_of
from serving.gateway.records import Event
from serving.gateway.schemas import EventOutcome
from serving.gateway.stores.base import Store, StoreUnavailable

if TYPE_CHECKING:
    from confluent_kafka import Message

BATCH = 1000  # events that are sent together
# Headers of a message that a store has sent.
STORE_HEADER = "zhiyin-store"  # which one
BEGIN_HEADER = "zhiyin-batch-begin"  # the store's number of the first event of the batch
KEYS_HEADER = "zhiyin-keys"  # fingerprint of the pseudonyms' keys under which the person's id stands; none for none
_REACHES = (1, 100, 10_000)  # how many last messages of a partition are searched for a store's own
_POLL_S = 1.0

Progress = Callable[[int], object]  # is told of so many messages more


def group_of(identity: str) -> str:
    """The consumer group of a store: each store takes everything."""
    return f"zhiyin-{identity}"


async def repeat(
    work: Callable[[], Awaitable[Counter[str]]], follow: bool, done: Callable[[Counter[str]], object]
) -> None:
    """Do the work once, or again and again; where it stops for a while after the first time, it is tried again.

    done: is told the counts of each time.
    Raises StreamUnavailable or StoreUnavailable where not even the first time went well.
    """
    is_first = True
    while True:
        counts: Counter[str] = Counter()
        try:
            counts = await work()
        except (StreamUnavailable, StoreUnavailable) as error:
            if is_first or not follow:
                raise
            counts[f"waits: {error}"] += 1
        done(counts)
        if not follow:
            return
        is_first = False
        await asyncio.sleep(_POLL_S)


class Publisher:
    """Sends a store's events to a topic."""

    def __init__(self, store: Store, topic: Topic, pseudonyms: Pseudonyms, progress: Progress) -> None:
        """pseudonyms: under which the store keeps people; they are sent as they are kept."""
        self._store, self._topic, self._progress = store, topic, progress
        self._keys = pseudonyms.fingerprint
        self._writer: Writer | None = None
        self._after = 0

    async def __call__(self) -> Counter[str]:
        """Send what is new since the topic's last batch. Raises StreamUnavailable, StoreUnavailable, SettingsError."""
        sent: Counter[str] = Counter()
        identity = await self._store.identity()
        try:
            if self._writer is None:
                self._after = await self._whole_up_to(identity)
                self._writer = Writer(self._topic, self._progress)
            while found := await self._store.events_after(self._after, BATCH):
                begin = found[0][0]
                self._writer.write(_message(event, identity, begin, self._keys) for _, event in found)
                self._after = found[-1][0]
                sent["sent"] += len(found)
        except StreamUnavailable:
            self._writer = None  # where to go on is for the topic to say
            raise
        return sent

    async def _whole_up_to(self, identity: str) -> int:
        """The number of the store's last event that the topic has for sure, with all before; 0 where it has none."""
        reader = Reader(self._topic, group_of(identity))
        try:
            begin = last_begin(reader, identity)
        finally:
            reader.close()
        # A store that was set back by other means than `zhiyin store restore` has given numbers twice.
        return begin - 1 if 0 < begin <= await self._store.num_events() else 0


def last_begin(reader: Reader, identity: str) -> int:
    """The largest beginning of a batch among a store's last messages in each partition; 0 where there is none.

    An earlier one than the last is as good, but more is sent twice.
    """
    spans, begins = reader.spans(), dict[int, int]()
    for reach in _REACHES:
        ends = {
            partition: Span(max(span.start, span.end - reach), span.end)
            for partition, span in spans.items()
            if partition not in begins
        }
        for message in itertools.chain.from_iterable(reader.messages(ends)):
            headers = _headers(message)
            begin = headers.get(BEGIN_HEADER, "")
            if headers.get(STORE_HEADER) == identity and begin.isdecimal():
                partition, _ = place_of(message)
                begins[partition] = max(begins.get(partition, 0), int(begin))
    return max(begins.values(), default=0)


def _message(event: Event, identity: str, begin: int, keys: str) -> OutMessage:
    fields = {
        "event_id": event.event_id,
        "user_id": event.user_id,
        "item_id": event.item_id,
        "event": event.event,
        "timestamp": event.time_s,
        "value": event.value,
        "request_id": event.request_id or None,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    headers = [(STORE_HEADER, identity.encode()), (BEGIN_HEADER, str(begin).encode())]
    if keys:
        headers.append((KEYS_HEADER, keys.encode()))
    return OutMessage(event.user_id.encode(), json.dumps(said, ensure_ascii=False).encode(), headers)


class _Taken(NamedTuple):
    event: Event
    user_id: str  # as the message says it
    kept_as: Pseudonyms


class Taker:
    """Takes a topic's events into a store."""

    def __init__(
        self, store: Store, topic: Topic, kinds: Iterable[str], pseudonyms: Pseudonyms, rejects: Rejects,
        progress: Progress,
    ) -> None:  # fmt: skip
        """kinds: of events that the event rules name. pseudonyms: under which the store keeps people."""
        self._store, self._topic, self._kinds = store, topic, tuple(kinds)
        self._pseudonyms, self._rejects, self._progress = pseudonyms, rejects, progress
        self._kept_as: dict[str, Pseudonyms] = {}

    async def __call__(self) -> Counter[str]:
        """Take what the topic holds now and the store's group has not read.

        Returns how many messages were `accepted`, `duplicate`, `forgotten` and `rejected`, and how many were `gone`
        before they could be read. Raises StreamUnavailable, StoreUnavailable, SettingsError.
        """
        identity, tombstones = await self._store.identity(), await tombstones_of(self._store)
        reader = Reader(self._topic, group_of(identity))
        try:
            spans, gone = reader.unread()
            counts = Counter({"gone": gone})
            for piece in reader.messages(spans):
                counts += await self._keep(piece, tombstones)
                reader.commit({partition: offset + 1 for partition, offset in map(place_of, piece)})
                self._progress(len(piece))
        finally:
            reader.close()
        return +counts  # without those of none

    async def _keep(self, piece: list[Message], tombstones: Tombstones) -> Counter[str]:
        found = [(message, self._judged(message)) for message in piece]
        taken = [one for _, one in found if isinstance(one, _Taken)]
        marks = [marks_of(tombstones, one.kept_as, one.user_id) for one in taken]
        done = await self._store.add_events([one.event for one in taken], marks) if taken else []
        rejected = [(message, one) for message, one in found if isinstance(one, EventOutcome)]
        self._rejects.add(rejected)
        return Counter([one.value for one in done]) + Counter({"rejected": len(rejected)})

    def _judged(self, message: Message) -> _Taken | EventOutcome:
        """The event of a message as it is kept, or what is wrong with it."""
        headers = _headers(message)
        kept_as = self._pseudonyms_after(headers.get(KEYS_HEADER, ""), message)
        try:
            given = json.loads(message.value() or b"")
        except (ValueError, RecursionError):
            return refused("event", "is no JSON")
        is_of_a_store = STORE_HEADER in headers  # then it has an id, and is without a time where it says none
        arrival = Arrival(None if is_of_a_store else _time_s(message), lambda: _id_of(message))
        event = judged(given, self._kinds, kept_as, arrival)
        return _Taken(event, user_id_of(given), kept_as) if isinstance(event, Event) else event

    def _pseudonyms_after(self, fingerprint: str, message: Message) -> Pseudonyms:
        """What makes a message's id the kept one: all our keys of a plain id, none or the later ones of a kept one."""
        if fingerprint not in self._kept_as:
            kept_as = self._pseudonyms.after(fingerprint)
            if kept_as is None:
                raise SettingsError(
                    f"gateway.privacy: {self._topic}, partition {message.partition()}, offset {message.offset()}: "
                    "people stand there under pseudonyms of other keys; take with the key file of the store that "
                    "publishes, its newest"
                )
            self._kept_as[fingerprint] = kept_as
        return self._kept_as[fingerprint]


class Rejects:
    """The messages of a topic that are no events: a JSON object a line in a file, each once."""

    def __init__(self, file: Path) -> None:
        """file: is added to where it is there."""
        self.file = file
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else [""]
        self._is_torn = bool(lines[-1])  # by a kill in the midst of writing
        self._known = {place for place in map(_place_of_line, lines) if place is not None}

    def add(self, rejected: Iterable[tuple[Message, EventOutcome]]) -> None:
        """Returns when the disk has them. Neither ids nor values are written."""
        new = []
        for message, outcome in rejected:
            place = (message.partition(), message.offset(), message.timestamp()[1])
            if place not in self._known:
                self._known.add(place)
                row = dict(zip(_PLACE, place), field=outcome.field, reason=outcome.reason)
                new.append(json.dumps(row) + "\n")  # in ASCII: a field may be any text, lone surrogates too
        if new:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write("\n" * self._is_torn + "".join(new))
                file.flush()
                os.fsync(file.fileno())
            self._is_torn = False


_PLACE = ("partition", "offset", "time_ms")


def _place_of_line(line: str) -> tuple[Any, ...] | None:
    try:
        row = json.loads(line)
        return tuple(row[name] for name in _PLACE)
    except (ValueError, KeyError, TypeError):
        return None  # the last line, or a torn one


def _headers(message: Message) -> dict[str, str]:
    try:
        headers: Any = message.headers() or ()
    except ValueError:  # names that are no UTF-8 are not ours
        return {}
    return {name: value.decode(errors="replace") for name, value in headers if isinstance(value, bytes)}


def _time_s(message: Message) -> int:
    """When the message was produced; now where it does not say."""
    kind, time_ms = message.timestamp()
    return max(0, time_ms // 1000) if kind else int(time.time())


def _id_of(message: Message) -> str:
    """An id for the event of a message that has none: the same whenever it is read."""
    place = [message.topic(), message.partition(), message.offset(), message.timestamp()[1]]
    digest = hashlib.blake2b(json.dumps(place).encode(), digest_size=16)
    digest.update(message.value() or b"")
    return f"kafka-{digest.hexdigest()}"
