"""A Kafka topic, read from place to place and written to until it is acknowledged. The client is librdkafka's.

Needs the extra `kafka` (confluent-kafka), which is imported when a topic is opened.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from components.settings import SettingsError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

ANSWER_S = 5.0  # within which a broker that is there answers
PATIENCE_S = 60.0  # how long one that is away in the midst of the work is waited for
AT_ONCE = 1000  # messages
_WAIT_S = 0.5
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
# What every guarantee rests on; a client's properties may not say otherwise.
_READING = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
}
_WRITING = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",  # as Java's clients, so that a person's events of either share a partition
    "delivery.timeout.ms": int(1000 * PATIENCE_S),
}
_OURS = {"bootstrap.servers", "metadata.broker.list", "group.id", "log_level"}
_OURS |= {"request.required.acks", "message.timeout.ms"}  # other names of what is above


class StreamUnavailable(RuntimeError):
    """The broker cannot be reached, or has not acknowledged; what was asked for is to be done again."""


class OutMessage(NamedTuple):
    """A message to be written."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Span(NamedTuple):
    """Offsets of a partition from `start` up to `end`, which is not in it."""

    start: int
    end: int


@dataclass(frozen=True)
class Topic:
    """A topic and how it is reached."""

    address: str  # HOST:PORT of a broker, or several with commas
    name: str
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)  # of librdkafka; passwords are among them

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in (".", ".."):
            raise SettingsError(f"--topic: got {self.name!r}, expected letters, digits, '.', '_' and '-'")

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"


def read_properties(file: Path) -> dict[str, str]:
    """A client's properties, `name=value` a line; lines with # before are comments.

    Raises SettingsError where the file cannot be read, or says what the guarantees rest on.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--client-properties: {file}: {error}") from error
    properties = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals:
            raise SettingsError(f"--client-properties: {file}:{number}: expected name=value")
        if name in _OURS | _READING.keys() | _WRITING.keys():
            raise SettingsError(f"--client-properties: {file}:{number}: {name} is not free to choose; leave it out")
        properties[name] = value
    return properties


class _Client:
    """What a reader and a writer have in common: how they are made, and what they say when a broker is away."""

    def __init__(self, topic: Topic, kind: str, settings: Mapping[str, Any]) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise SettingsError("Kafka needs the extra `kafka`: pip install 'zhiyin[kafka]'") from error
        self._kafka, self._topic, self._last_error = confluent_kafka, topic, ""
        ours = {"bootstrap.servers": topic.address, "log_level": 0, "error_cb": self._note}
        try:
            self._client = getattr(confluent_kafka, kind)({**topic.properties, **settings, **ours})
        except (confluent_kafka.KafkaException, ValueError) as error:
            raise SettingsError(f"--client-properties: {_text(error)}") from error

    def _note(self, error: KafkaError) -> None:
        self._last_error = error.str()

    def _away(self, what: str, error: object) -> StreamUnavailable:
        causes = "; ".join(dict.fromkeys(text for text in (_text(error), self._last_error) if text))
        return StreamUnavailable(f"Kafka at {self._topic.address}: {what}: {causes}")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._kafka.KafkaException as error:
            self._client.poll(0)  # brings what the client knows of the cause
            raise self._away(what, error) from error


class Reader(_Client):
    """Reads a topic for a consumer group, whose places move when they are committed and not before.

    It takes all partitions: two readers of one group both read everything, and nobody waits for a killed one's lease.
    """

    def __init__(self, topic: Topic, group: str) -> None:
        super().__init__(topic, "Consumer", {**_READING, "group.id": group})

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def spans(self) -> dict[int, Span]:
        """What each partition holds at this moment.

        Raises SettingsError where there is no such topic, StreamUnavailable where no broker answers.
        """
        with self._asking(f"no broker has answered within {ANSWER_S:.0f} s"):
            found = self._client.list_topics(self._topic.name, ANSWER_S).topics[self._topic.name]
        if found.error is not None and found.error.code() == self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise SettingsError(f"--topic: there is no topic {self._topic}; make it first")
        if found.error is not None:
            raise self._away(f"the topic {self._topic.name} cannot be read", found.error)
        with self._asking(f"the partitions of {self._topic.name} do not answer"):
            return {
                partition: Span(*self._client.get_watermark_offsets(self._place(partition), ANSWER_S))
                for partition in sorted(found.partitions)
            }

    def unread(self) -> tuple[dict[int, Span], int]:
        """What the group has not read yet, and how many messages of that are gone already."""
        spans, gone = self.spans(), 0
        with self._asking("the group's places cannot be read"):
            committed = self._client.committed([self._place(partition) for partition in spans], ANSWER_S)
        for place in committed:
            low, high = spans[place.partition]
            is_new = not low <= place.offset <= high  # none yet, or of messages that are gone
            gone += max(0, low - place.offset) if place.offset >= 0 else 0
            spans[place.partition] = Span(low if is_new else place.offset, high)
        return spans, gone

    def messages(self, spans: Mapping[int, Span]) -> Iterator[list[Message]]:
        """The messages of some spans in pieces of at most AT_ONCE, those of a partition in their order.

        Raises StreamUnavailable after PATIENCE_S of silence.
        """
        waiting = {partition: span.end for partition, span in spans.items() if span.start < span.end}
        self._client.assign([self._place(partition, spans[partition].start) for partition in waiting])
        heard = time.monotonic()
        while waiting:
            with self._asking("reading stopped"):
                found = self._client.consume(AT_ONCE, _WAIT_S)
            piece = []
            for message in found:
                end = waiting.get(message.partition())
                if end is None:
                    continue
                error = message.error()
                if error is not None and error.code() != self._kafka.KafkaError._PARTITION_EOF:
                    self._note(error)
                    continue
                if error is None and message.offset() < end:
                    piece.append(message)
                if error is not None or message.offset() + 1 >= end:
                    del waiting[message.partition()]
            if piece:
                yield piece
                heard = time.monotonic()  # after the caller's own work
            elif time.monotonic() - heard > PATIENCE_S:
                raise self._away(f"silent for {PATIENCE_S:.0f} s", "")
        self._client.unassign()

    def commit(self, places: Mapping[int, int]) -> None:
        """Move the group's places: partition -> the offset that is read next. Returns when the broker has them."""
        until = time.monotonic() + PATIENCE_S
        offsets = [self._place(partition, offset) for partition, offset in places.items()]
        while True:
            try:
                done = self._client.commit(offsets=offsets, asynchronous=False)
                failed = next((place.error for place in done if place.error is not None), None)
            except self._kafka.KafkaException as error:
                failed = error
            if failed is None:
                return
            if time.monotonic() > until:
                raise self._away("the group's places were not acknowledged", failed)
            time.sleep(_WAIT_S)

    def _place(self, partition: int, *offset: int) -> Any:
        return self._kafka.TopicPartition(self._topic.name, partition, *offset)


class Writer(_Client):
    """Writes to a topic; each partition holds messages in the order in which they were given, each once."""

    def __init__(self, topic: Topic, acknowledged: Callable[[int], object]) -> None:
        """acknowledged: is called with 1 for each message that all replicas in sync have."""
        super().__init__(topic, "Producer", _WRITING)
        self._acknowledged = acknowledged
        self._failed: list[KafkaError] = []

    def write(self, messages: Iterable[OutMessage]) -> None:
        """Returns when all are acknowledged. Raises StreamUnavailable where one is not: write with another writer."""
        with self._asking("writing stopped"):
            for key, value, headers in messages:
                self._client.produce(
                    self._topic.name, value=value, key=key, headers=headers, on_delivery=self._delivered
                )
            while self._client.flush(_WAIT_S):
                pass
        if self._failed:
            raise self._away(f"{len(self._failed):,} messages were not acknowledged", self._failed[0])

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        del message
        if error is None:
            self._acknowledged(1)
        else:
            self._failed.append(error)


def place_of(message: Message) -> tuple[int, int]:
    """Partition and offset of a message that was read; only one that is yet to be written has none."""
    return cast("int", message.partition()), cast("int", message.offset())


def _text(error: object) -> str:
    """An error of the client's in its own words, without its number."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    return inner.str() if hasattr(inner, "str") else str(inner)
