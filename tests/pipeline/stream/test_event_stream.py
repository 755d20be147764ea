"""Events go from a store through a real Kafka broker into another store: none lost, none twice, whatever is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest

from components.settings import SettingsError
from pipeline.event_stream import BEGIN_HEADER, KEYS_HEADER, Publisher, last_begin
from pipeline.kafka_topic import Reader
from serving.gateway.privacy import Pseudonyms, Tombstones, tombstones_of
from serving.gateway.records import Event
from serving.gateway.stores.base import StoreUnavailable
from serving.gateway.stores.sqlite import restore_database
from tests.pipeline.stream.clients import (
    NEW,
    NOW_S,
    OLD,
    Restart,
    again_and_again,
    by_person,
    events_of,
    fill,
    made,
    messages_of,
    needs_kafka,
    of_nobody,
    publish,
    rejects_in,
    take,
    write,
)
from tests.serving.gateway import running


@needs_kafka
class TestThroughABroker:
    def test_every_event_comes_as_it_was_in_the_order_of_its_person(self, topic, urls, tmp_path):
        first, second = urls
        given = fill(first, made(1200))
        assert publish(first, topic) == {"sent": 1200}
        assert take(second, topic, tmp_path) == {"accepted": 1200}
        assert by_person(events_of(second)) == by_person(given)
        assert len({message.partition() for message in messages_of(topic)}) > 1, "the test needs several partitions"

    def test_only_what_is_new_goes_and_comes(self, topic, urls, tmp_path):
        first, second = urls
        fill(first, made(20))
        publish(first, topic)
        take(second, topic, tmp_path)
        assert take(second, topic, tmp_path) == Counter()
        fill(first, made(23))
        again = publish(first, topic)["sent"]
        assert again == 23, "from the beginning of the last batch, since nobody knows that it is whole"
        assert take(second, topic, tmp_path) == {"accepted": 3, "duplicate": 20}
        assert Counter(events_of(second)) == Counter(made(23))

    def test_one_publisher_that_goes_on_sends_nothing_twice(self, topic, two):
        async def go(store):
            publisher = Publisher(store, topic, Pseudonyms(), of_nobody)
            await store.add_events(made(20))
            assert await publisher() == {"sent": 20}
            await store.add_events(made(25))
            assert await publisher() == {"sent": 5}
            assert await publisher() == Counter()

        running.run(go, two[0])
        assert len(messages_of(topic)) == 25

    def test_a_broker_killed_in_the_midst_of_both_ways(self, broker, topic, two, tmp_path):
        first, second = two
        given = fill(first, made(3000))
        out = Restart(broker, after=1100)
        again_and_again(lambda: publish(first, topic, progress=out))
        out.join()
        inward = Restart(broker, after=1100)
        again_and_again(lambda: take(second, topic, tmp_path, progress=inward))
        inward.join()
        taken = events_of(second)
        assert Counter(taken) == Counter(given), "none lost, none twice"
        assert by_person(taken) == by_person(given)

    def test_clients_killed_in_the_midst_of_a_batch(self, topic, two, tmp_path):
        """The client kills itself with -9, in a process of its own, when so many events have gone through."""
        first, second = two
        given = fill(first, made(2500))
        script = (
            "import os, signal, sys; from pathlib import Path; from tests.pipeline.stream import clients as t\n"
            "from pipeline.kafka_topic import Topic\n"
            "left = [int(sys.argv[3])]\n"
            "def progress(count):\n"
            "    left[0] -= count\n"
            "    if left[0] <= 0: os.kill(os.getpid(), signal.SIGKILL)\n"
            "topic = Topic(sys.argv[4], sys.argv[5])\n"
            "further = [topic, Path(sys.argv[6])] if sys.argv[1] == 'take' else [topic]\n"
            "getattr(t, sys.argv[1])(sys.argv[2], *further, progress=progress)\n"
        )

        def killed(which, url, after):
            words = (which, str(url), str(after), topic.address, topic.name, str(tmp_path))
            return subprocess.run(
                [sys.executable, "-c", script, *words], check=False, env=os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109
            ).returncode  # fmt: skip

        assert killed("publish", first, 300) == -signal.SIGKILL
        assert killed("publish", first, 1500) == -signal.SIGKILL
        publish(first, topic)
        assert len(messages_of(topic)) > 2500, "something was sent twice, or the kill proves nothing"
        assert killed("take", second, 900) == -signal.SIGKILL
        take(second, topic, tmp_path)
        taken = events_of(second)
        assert Counter(taken) == Counter(given)
        assert by_person(taken) == by_person(given)

    def test_what_the_store_has_not_acknowledged_is_taken_the_next_time(self, topic, two, tmp_path):
        first, second = two
        fill(first, made(1200))
        publish(first, topic)
        running.run(lambda store: store.identity(), second)
        lock, pieces = sqlite3.connect(second, isolation_level=None), []

        def progress(count):
            pieces.append(count)
            lock.execute("BEGIN IMMEDIATE")  # another process writes, and does not come to an end

        with pytest.raises(StoreUnavailable, match="locked"):
            take(second, topic, tmp_path, progress=progress)
        lock.execute("ROLLBACK")
        lock.close()
        assert take(second, topic, tmp_path) == {"accepted": 1200 - sum(pieces)}
        assert Counter(events_of(second)) == Counter(made(1200))

    def test_each_store_takes_everything(self, topic, two, tmp_path):
        write(topic, {"user_id": "u", "item_id": "i", "event_id": "1"})
        assert take(two[0], topic, tmp_path) == {"accepted": 1}
        assert take(two[1], topic, tmp_path) == {"accepted": 1}

    def test_a_store_that_was_brought_back_sends_and_takes_again(self, topic, two, tmp_path):
        first, second = two

        def copied(url):
            copy = tmp_path / f"{url.name}.copy"
            running.run(lambda store: store.backup(copy), url)
            return copy

        fill(first, made(10))
        publish(first, topic)
        take(second, topic, tmp_path)
        copies = [copied(url) for url in two]
        fill(first, made(30))
        publish(first, topic)
        take(second, topic, tmp_path)
        for url, copy in zip(two, copies):
            restore_database(copy, url)
        later = [Event(f"later{n}", "u", "i", "play", NOW_S) for n in range(40)]
        fill(first, later)  # under numbers that others had before
        assert publish(first, topic) == {"sent": 50}
        take(second, topic, tmp_path)
        assert Counter(events_of(second)) == Counter(made(30) + later)

    def test_where_to_go_on_is_found_below_what_others_sent(self, topic, two):
        first, _ = two
        fill(first, made(1500))
        publish(first, topic)
        identity = running.run(lambda store: store.identity(), first)
        write(topic, *[{"user_id": "u", "item_id": "i"}] * 300)
        reader = Reader(topic, "looks-only")
        assert last_begin(reader, identity) == 1001
        assert last_begin(reader, "another") == 0
        reader.close()


@needs_kafka
class TestMessagesOfOthers:
    def test_what_is_no_event_is_a_reject_with_place_and_reason_and_stops_nothing(self, topic, two, tmp_path):
        good = {"user_id": "u", "item_id": "i", "event_id": "good"}
        bad = [
            b"no JSON",
            b"\xff\xfe",
            b"",
            b"[" * 100_000,
            [1, 2],
            {"item_id": "i"},
            good | {"user_id": 5},
            good | {"value": "much"},
            good | {"event": "unheard of"},
            good | {"timestamp": int(time.time()) + 10_000_000},
            good | {"surprise": 1},
            good | {"\ud800": 1},
            good | {"item_id": "\ud800"},
        ]
        write(topic, *bad, good)
        assert take(two[1], topic, tmp_path) == {"accepted": 1, "rejected": len(bad)}
        rows = rejects_in(tmp_path)
        assert [row["field"] for row in rows[:6]] == ["event"] * 5 + ["user_id"]
        assert {row["field"] for row in rows[6:]} >= {"user_id", "event", "timestamp", "surprise"}
        places = [(message.partition(), message.offset()) for message in messages_of(topic)]
        assert [(row["partition"], row["offset"]) for row in rows] == places[:-1]
        assert all(row["reason"] for row in rows)
        assert take(two[1], topic, tmp_path) == Counter(), "and nothing is stuck"

    def test_a_reject_that_is_read_again_is_written_once(self, topic, two, tmp_path):
        write(topic, b"no JSON", b"nor this")
        take(two[0], topic, tmp_path)
        file = tmp_path / "rejects.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text(lines[0] + lines[1][:20])  # killed in the midst of writing
        assert take(two[1], topic, tmp_path) == {"rejected": 2}
        kept = [line for line in file.read_text().splitlines() if line]
        assert [lines[0].strip(), lines[1].strip()] == [kept[0], kept[-1]]
        assert len(kept) == 3

    def test_an_event_without_id_and_time_gets_them_of_its_message_whenever_it_is_read(self, topic, two, tmp_path):
        write(topic, *[{"user_id": "u", "item_id": "i"}] * 2)
        take(two[0], topic, tmp_path)
        take(two[1], topic, tmp_path)
        once, again = events_of(two[0]), events_of(two[1])
        assert once == again
        assert len({event.event_id for event in once}) == 2, "two messages are two events"
        times = [message.timestamp()[1] // 1000 for message in messages_of(topic)]
        assert [event.time_s for event in once] == times


@needs_kafka
class TestPeople:
    def test_a_forgotten_person_stays_out(self, topic, urls, tmp_path):
        first, second = urls
        fill(first, made(70))
        publish(first, topic)

        async def forget(store):
            mark = (await tombstones_of(store))("person 3 ü")
            await store.forget_user("person 3 ü", mark, 5)

        running.run(forget, second)
        assert take(second, topic, tmp_path) == {"accepted": 60, "forgotten": 10}
        assert "person 3 ü" not in {event.user_id for event in events_of(second)}

    def test_ids_are_sent_as_they_are_kept_and_never_pseudonymised_twice(self, topic, two, tmp_path):
        old = Pseudonyms([OLD])
        fill(two[0], [Event("1", old("ada"), "i", "play", NOW_S)])
        publish(two[0], topic, old)
        (message,) = messages_of(topic)
        assert b"ada" not in message.value() + message.key()
        assert KEYS_HEADER in dict(message.headers())
        assert BEGIN_HEADER in dict(message.headers())
        write(topic, {"user_id": "ada", "item_id": "j", "event_id": "2"})  # another producer's: a plain id
        take(two[1], topic, tmp_path, old)
        assert {event.user_id for event in events_of(two[1])} == {old("ada")}

    def test_after_a_rotation_what_was_sent_before_is_of_the_same_person(self, topic, two, tmp_path):
        old, both = Pseudonyms([OLD]), Pseudonyms([OLD, NEW])
        fill(two[0], [Event("1", old("ada"), "i", "play", NOW_S), Event("2", old("bob"), "i", "play", NOW_S)])
        publish(two[0], topic, old)

        async def forget(store):  # before the rotation: the tombstone is of the former pseudonym
            await store.forget_user(old("bob"), (await tombstones_of(store))(old("bob")), 5)

        running.run(forget, two[1])
        assert take(two[1], topic, tmp_path, both) == {"accepted": 1, "forgotten": 1}
        assert [event.user_id for event in events_of(two[1])] == [both("ada")]

    def test_pseudonyms_of_unknown_keys_are_refused_and_wait_for_the_right_ones(self, topic, two, tmp_path):
        new = Pseudonyms([NEW])
        fill(two[0], [Event("1", new("ada"), "i", "play", NOW_S)])
        publish(two[0], topic, new)
        for wrong in (Pseudonyms(), Pseudonyms([OLD]), Pseudonyms([OLD, NEW])):
            with pytest.raises(SettingsError, match=r"offset 0: .* pseudonyms of other keys"):
                take(two[1], topic, tmp_path, wrong)
        assert take(two[1], topic, tmp_path, new) == {"accepted": 1}


def test_a_fingerprint_tells_keys_apart_and_says_none_of_them():
    both = Pseudonyms([OLD, NEW])
    assert both.after("").former("ada") == both.former("ada")
    assert both.after(Pseudonyms([OLD]).fingerprint)(Pseudonyms([OLD])("ada")) == both("ada")
    assert both.after(both.fingerprint)("kept") == "kept"
    assert both.after(Pseudonyms([NEW]).fingerprint) is None
    assert Pseudonyms().fingerprint == ""
    assert OLD.hex() not in Pseudonyms([OLD]).fingerprint
    assert Tombstones(OLD)("x") != Pseudonyms([OLD]).fingerprint
