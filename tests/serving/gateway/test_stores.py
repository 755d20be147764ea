"""What every store must do; SQLite and Redis alike. The Redis is a real server."""

import asyncio
import itertools
import sqlite3

import pytest

from serving.gateway.records import Acceptance, ApiKey, Event, Exposure, StoredItem
from serving.gateway.stores import schema
from serving.gateway.stores.base import EVENTS_AT_ONCE, StoreUnavailable, open_store
from serving.gateway.stores.redis import RedisStore
from serving.gateway.stores.sqlite import SqliteStore, restore_database
from tests.serving.gateway import running

NUMBERS = itertools.count(1)
NEW, KNOWN = Acceptance.ACCEPTED, Acceptance.DUPLICATE


def event(number, user_id="u", item_id="i", kind="play", time_s=100):
    return Event(f"e{number}", user_id, item_id, kind, time_s, 4.5, "r1")


def exposure(number, user_id="u", time_s=5):
    return Exposure(f"r{number}", user_id, time_s, ("a", "ü"), (0.5, 0.25), 7, {"colour": "red"}, "timeout")


async def listed(rows):
    return [row async for row in rows]


def renamed(user_id):
    return f"new-{user_id}"


class Contract:
    """Each test gets the address of an empty store."""

    def test_an_event_is_taken_once_and_read_back_as_it_was(self, url):
        async def go(store):
            assert await store.add_events([event(1), event(1), event(2)]) == [NEW, KNOWN, NEW]
            assert await store.add_events([event(2), event(3)]) == [KNOWN, NEW]
            assert await listed(store.events()) == [event(1), event(2), event(3)]
            assert await store.num_events() == 3
            assert await store.item_counts() == {("i", "play"): 3}

        running.run(go, url)

    def test_what_was_acknowledged_is_there_after_opening_again(self, url):
        running.run(lambda store: store.add_events([event(1)]), url)
        assert running.run(lambda store: listed(store.events()), url) == [event(1)]

    def test_a_persons_most_recent_events_come_oldest_first_by_time_not_by_arrival(self, url):
        async def go(store):
            times = (50, 10, 40, 20, 30)
            await store.add_events([event(n, time_s=time_s) for n, time_s in enumerate(times)])
            await store.add_events([event(9, user_id="another", time_s=60), event(8, time_s=50)])
            state = await store.user_state("u", ["no tombstone"], 4)
            assert [(one.time_s, one.event_id) for one in state.events] == [
                (30, "e4"), (40, "e2"), (50, "e0"), (50, "e8")]  # fmt: skip
            assert not state.is_forgotten
            assert (await store.user_state("nobody", ["t"], 4)).events == ()

        running.run(go, url)

    def test_events_without_time_are_kept_without(self, url):
        async def go(store):
            await store.add_events([event(1, time_s=None), event(2, time_s=None)])
            assert [one.time_s for one in (await store.user_state("u", ["t"], 9)).events] == [None, None]

        running.run(go, url)

    def test_a_persons_state_has_the_events_as_they_came(self, url):
        given = [
            Event("e1", "u", 'a "quoted", ü\\', "play", 1, 1 / 3, "r\t1"),
            Event("e2", "u", "i", "rating", 2, 1e-300),
            Event("e3", "u", "i", "play", 3, None),
            Event("e4", "u", "i", "rating", 4, -123456789.123456789),
        ]

        async def go(store):
            await store.add_events(given)
            assert list((await store.user_state("u", ["t"], 9)).events) == given

        running.run(go, url)

    def test_a_persons_events_come_by_pages(self, url):
        async def go(store):
            await store.add_events([event(n, time_s=1000 - n) for n in range(5)])
            first = await store.user_events("u", 0, 3)
            rest = await store.user_events("u", first[-1][0], 3)
            assert [one.event_id for _, one in first + rest] == ["e0", "e1", "e2", "e3", "e4"]

        running.run(go, url)

    def test_everybodys_events_come_by_pages_in_the_order_of_acceptance(self, url):
        async def go(store):
            await store.add_events([event(n, user_id=f"u{n % 2}", time_s=1000 - n) for n in range(5)])
            await store.add_events([event(0), event(9, user_id="another")])
            first = await store.events_after(0, 4)
            rest = await store.events_after(first[-1][0], 4)
            assert [one.event_id for _, one in first] == ["e0", "e1", "e2", "e3"]
            assert [one for _, one in rest] == [event(4, user_id="u0", time_s=996), event(9, user_id="another")]
            assert await store.events_after(rest[-1][0], 4) == []
            await store.forget_user("u1", "mark", 5)
            await store.add_events([event(10)])
            numbers, left = zip(*await store.events_after(0, 9))
            assert [one.event_id for one in left] == ["e0", "e2", "e4", "e9", "e10"]
            assert list(numbers) == sorted(numbers), "a number is never given again"
            assert numbers[-1] > rest[-1][0]

        running.run(go, url)

    def test_all_events_are_more_than_a_page(self, url):
        given = [event(n) for n in range(EVENTS_AT_ONCE + 2)]

        async def go(store):
            await store.add_events(given)
            assert await listed(store.events()) == given

        running.run(go, url)

    def test_forgetting_removes_everything_of_one_person_and_of_no_other(self, url):
        async def go(store):
            await store.add_events([event(1), event(2, user_id="stays"), event(3, item_id="j")])
            await store.add_exposures([exposure(1), exposure(2, "stays")])
            await store.put_user("u", {"age": 3.0})
            await store.put_user("stays", {"age": 4.0})
            assert await store.forget_user("u", "mark", 77) == 2
            assert await store.user_exposures("u") == []
            assert await store.get_user("u") is None
            assert (await store.user_state("u", ["mark"], 5)).is_forgotten
            assert await store.forgotten(["mark", "other"]) == [True, False]
            late = [event(7), event(8, user_id="stays")]
            assert await store.add_events(late, [("old", "mark"), ("other",)]) == [Acceptance.FORGOTTEN, NEW]
            lists = [exposure(8), exposure(9, "stays"), exposure(10, "")]
            await store.add_exposures(lists, [("mark", "old"), ("other",), ()])
            assert await store.user_exposures("u") == []
            assert [one.request_id for one in await store.user_exposures("stays")] == ["r2", "r9"]
            assert not await store.put_user("u", {"age": 3.0}, ["old", "mark"])
            assert await store.get_user("u") is None
            assert await store.put_user("stays", {"age": 5.0}, ["other"])
            assert await listed(store.exposures()) == [exposure(10, ""), exposure(2, "stays"), exposure(9, "stays")]
            assert await store.get_user("stays") == {"age": 5.0}
            assert await listed(store.events()) == [event(2, user_id="stays"), event(8, user_id="stays")]
            counts = await store.item_counts()
            assert (counts["i", "play"], counts.get(("j", "play"), 0)) == (2, 0)
            assert await store.num_events() == 4, "the number of accepted events only grows"

        running.run(go, url)

    def test_several_people_are_forgotten_at_once(self, url):
        async def go(store):
            await store.add_events([event(n, user_id=f"u{n}") for n in range(5)])
            done = await asyncio.gather(*(store.forget_user(f"u{n}", f"mark{n}", 5) for n in range(5)))
            assert done == [1] * 5
            assert await listed(store.events()) == []

        running.run(go, url)

    def test_renaming_people_keeps_all_that_is_theirs(self, url):
        async def go(store):
            await store.add_events([event(1), event(2, user_id="v")])
            await store.add_exposures([exposure(1)])
            await store.put_user("w", {"age": 1.0})
            assert await store.rename_users(renamed, "first") == 3
            assert [one.user_id for one in await listed(store.events())] == ["new-u", "new-v"]
            assert (await store.user_state("new-u", ["t"], 5)).events == (event(1, user_id="new-u"),)
            assert await store.user_exposures("new-u") == [exposure(1, "new-u")]
            assert await listed(store.users()) == [("new-w", {"age": 1.0})]
            assert (await store.user_state("u", ["t"], 5)).events == ()

        running.run(go, url)

    def test_a_renaming_that_is_cut_short_goes_on_and_renames_nobody_twice(self, url):
        def cut(user_id):
            if user_id == "v":
                raise OSError("cut short")
            return renamed(user_id)

        async def people(store):
            return {one.user_id for one in await listed(store.events())}

        async def go(store):
            await store.add_events([event(n, user_id=user_id) for n, user_id in enumerate("uvw")])
            with pytest.raises((OSError, StoreUnavailable)):
                await store.rename_users(cut, "first")
            for _ in range(2):
                assert await store.rename_users(renamed, "first") == 3
                assert await people(store) == {"new-u", "new-v", "new-w"}
            assert await store.rename_users(renamed, "second") == 3
            assert await people(store) == {"new-new-u", "new-new-v", "new-new-w"}

        running.run(go, url)

    def test_items_are_read_by_their_changes(self, url):
        async def go(store):
            await store.put_items([StoredItem("a", {"title": "Ä"}), StoredItem("b", {}, is_live=True)])
            first = await store.changed_items(0, 10)
            assert [(one.item_id, one.fields, one.is_live) for one in first] == [
                ("a", {"title": "Ä"}, False), ("b", {}, True)]  # fmt: skip
            assert await store.withdraw_item("a")
            assert not await store.withdraw_item("nothing")
            await store.put_items([StoredItem("b", {"title": "new"}, is_live=True)])
            later = await store.changed_items(first[-1].seq, 10)
            assert [(one.item_id, one.is_withdrawn) for one in later] == [("a", True), ("b", False)]
            assert (await store.get_item("b")).fields == {"title": "new"}
            assert await store.get_item("nothing") is None
            assert len(await store.changed_items(0, 1)) == 1

        running.run(go, url)

    def test_a_withdrawn_item_stays_withdrawn_and_what_comes_with_it_is_not_written(self, url):
        async def go(store):
            assert await store.put_items([StoredItem("a", {"title": "Ä"}), StoredItem("b", {})]) == []
            await store.withdraw_item("a")
            before = await store.changed_items(0, 10)
            assert await store.put_items([StoredItem("b", {"title": "new"}), StoredItem("a", {}, is_live=True)]) == [
                "a"
            ]
            assert await store.changed_items(0, 10) == before
            assert await store.put_items([StoredItem("a", {"title": "O"}, is_withdrawn=True)]) == []
            assert (await store.get_item("a")).fields == {"title": "O"}

        running.run(go, url)

    def test_exposures_are_read_back_by_time(self, url):
        async def go(store):
            await store.add_exposures([exposure(1, time_s=9), exposure(2, "v", time_s=3)])
            await store.add_exposures([])
            assert await listed(store.exposures()) == [exposure(2, "v", time_s=3), exposure(1, time_s=9)]

        running.run(go, url)

    def test_keys_and_settings(self, url):
        async def go(store):
            key = ApiKey("k1", "hash", ("read", "write"), "shop", 5)
            await store.put_key(key)
            await store.touch_key("k1", 99)
            assert await store.get_key("k1") == ApiKey("k1", "hash", ("read", "write"), "shop", 5, 0, 99)
            assert await store.get_key("k2") is None
            assert [one.key_id for one in await store.keys()] == ["k1"]
            assert await store.set_meta_once("m", "first") == "first"
            assert await store.set_meta_once("m", "second") == "first"
            assert await store.get_meta("m") == "first"
            assert await store.get_meta("none") is None

        running.run(go, url)

    def test_writes_from_many_at_once_are_each_acknowledged_once(self, url):
        async def go(store):
            batches = [[event(10 * n + m, user_id=f"u{n}") for m in range(3)] for n in range(50)]
            assert await asyncio.gather(*map(store.add_events, batches)) == [[NEW] * 3] * 50
            assert len(await listed(store.events())) == 150

        running.run(go, url)


class TestSqlite(Contract):
    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "store.sqlite")

    def test_a_backup_of_a_store_in_use_holds_what_was_acknowledged(self, url, tmp_path):
        async def go(store):
            await store.add_events([event(1)])
            await store.backup(tmp_path / "copy.sqlite")
            await store.add_events([event(2)])

        running.run(go, url)
        assert running.run(lambda store: listed(store.events()), tmp_path / "copy.sqlite") == [event(1)]

    def test_a_restore_is_seen_by_a_store_that_is_open(self, url, tmp_path):
        async def go(store):
            await store.add_events([event(1)])
            await store.backup(tmp_path / "copy.sqlite")
            await store.add_events([event(2)])
            restore_database(tmp_path / "copy.sqlite", store.path)
            assert await listed(store.events()) == [event(1)]
            assert await store.add_events([event(3)]) == [NEW]

        running.run(go, url)

    def test_a_copy_that_is_no_database_is_refused(self, url, tmp_path):
        (tmp_path / "copy.sqlite").write_bytes(b"no database at all" * 1000)
        with pytest.raises(sqlite3.DatabaseError):
            restore_database(tmp_path / "copy.sqlite", url)

    def test_several_that_make_one_file_at_the_same_time_all_open_it(self, tmp_path):
        """SQLite answers some of them with `database is locked` at once: of 50 files such as these about one."""

        async def go(path):
            stores = [SqliteStore(str(path)) for _ in range(4)]
            await asyncio.gather(*(store.open() for store in stores))
            await asyncio.gather(*(store.close() for store in stores))

        for number in range(50):
            asyncio.run(go(tmp_path / f"{number}.sqlite"))

    def test_two_processes_can_open_and_migrate_one_file(self, url):
        async def go():
            first, second = SqliteStore(url), SqliteStore(url)
            await asyncio.gather(first.open(), second.open())
            assert await first.add_events([event(1)]) == [NEW]
            assert await second.add_events([event(1), event(2)]) == [KNOWN, NEW]
            await asyncio.gather(first.close(), second.close())

        asyncio.run(go())

    def test_a_migration_keeps_what_was_there(self, url):
        connection = sqlite3.connect(url, isolation_level=None)
        assert schema.migrate(connection) == len(schema.MIGRATIONS)
        connection.execute("INSERT INTO meta VALUES ('old', 'value')")
        later = (*schema.MIGRATIONS, "ALTER TABLE meta ADD COLUMN note TEXT; CREATE TABLE more (a INTEGER)")
        assert schema.migrate(connection, later) == 1
        assert connection.execute("SELECT name, value, note FROM meta").fetchall() == [("old", "value", None)]
        with pytest.raises(schema.SchemaTooNew, match="update zhiyin"):
            schema.migrate(connection)

    def test_a_disk_that_refuses_is_said(self, tmp_path):
        with pytest.raises(StoreUnavailable, match="unable to open"):
            running.run(lambda store: store.ping(), tmp_path / "no" / "such" / "folder")

    def test_forgotten_bytes_are_overwritten(self, url, tmp_path):
        async def go(store):
            await store.add_events([event(n, user_id="Findefix") for n in range(50)])
            await store.forget_user("Findefix", "mark", 5)

        running.run(go, url)
        assert not any(b"Findefix" in file.read_bytes() for file in tmp_path.iterdir())


class TestRedis(Contract):
    @pytest.fixture
    def url(self, redis_server):
        return redis_server.url.removesuffix("/0") + f"/{next(NUMBERS) % 16}"

    @pytest.fixture(autouse=True)
    def _empty(self, url):
        async def go(store):
            await store._redis.flushdb()

        running.run(go, url)

    def test_a_renaming_whose_answer_is_lost_has_happened_and_goes_on(self, url, monkeypatch):
        async def lost(store, old, new):
            await rename(store, old, new)
            if old == "v":
                raise StoreUnavailable("Redis: Timeout reading from socket")

        async def go(store):
            await store.add_events([event(n, user_id=user_id) for n, user_id in enumerate("uvw")])
            with pytest.raises(StoreUnavailable, match="Timeout"):
                await store.rename_users(renamed, "first")
            with pytest.raises(ValueError, match="1 people left"):
                await store.rename_users(renamed, "second")
            await store.rename_users(renamed, "first")
            assert {one.user_id for one in await listed(store.events())} == {"new-u", "new-v", "new-w"}

        rename = RedisStore._rename
        monkeypatch.setattr(RedisStore, "_rename", lost)
        running.run(go, url)

    def test_a_server_that_promises_less_is_named(self, url, tmp_path):
        async def go(store):
            return store.durability_warning

        assert running.run(go, url) == ""
        lazy = running.Redis(tmp_path / "lazy", appendfsync="everysec")
        assert "appendfsync everysec" in running.run(go, lazy.url)
        lazy.stop()

    def test_a_server_that_is_away_is_said(self):
        with pytest.raises(StoreUnavailable, match="Redis"):
            running.run(lambda store: store.ping(), f"redis://127.0.0.1:{running.free_port()}/0")


def test_an_unknown_kind_of_store_is_named():
    with pytest.raises(ValueError, match="expected a file"):
        open_store("mysql://there")
