"""The embedded store: one SQLite file with a write-ahead log, shared by the gateways of one machine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from serving.gateway.records import Acceptance, ApiKey, Event, Exposure, StoredItem, UserState
from serving.gateway.stores import schema
from serving.gateway.stores.base import IDENTITY, RENAMING, Marks, Store, StoreUnavailable
from serving.gateway.stores.sqlite_values import encoded, event_of, exposure_of, item_of, key_of
from serving.gateway.stores.writer import GroupWriter

T = TypeVar("T")
BUSY_S = 5.0  # how long a writer waits for another process's transaction
READERS = 4  # threads, each with a connection of its own
ROWS_AT_ONCE = 5000

_EVENT = "event_id, user_id, item_id, event, time_s, value, request_id"
# One row whatever their number: each step of a cursor hands the interpreter's lock to another thread and back. A number
# of SQLite's JSON has 15 digits, which are too few for a double.
_USER_STATE = """
SELECT json_group_array(json_array(seq, event_id, user_id, item_id, event, time_s, value, request_id)),
       EXISTS (SELECT 1 FROM tombstones WHERE tombstone IN (SELECT value FROM json_each(?)))
FROM (
    SELECT seq, event_id, user_id, item_id, event, time_s, request_id,
           CASE WHEN value IS NULL THEN NULL ELSE printf('%!.17g', value) END AS value
    FROM events WHERE user_id = ? ORDER BY time_s DESC, seq DESC LIMIT ?
)
"""
_EXPOSURE = "request_id, user_id, time_s, item_ids, scores, model_version, variants, degraded"
_ITEM = "item_id, fields, is_live, is_withdrawn, seq"
_KEY = "key_id, secret_hash, scopes, name, created_s, revoked_s, last_used_s"
_NEXT_SEQ = "(SELECT COALESCE(MAX(seq), 0) + 1 FROM items)"


class SqliteStore(Store):
    """Acknowledges a write when its commit has been synced to disk (`synchronous=FULL`)."""

    def __init__(self, path: str) -> None:
        """path: of the database file; its folder must exist."""
        self.path = Path(path).absolute()
        self._writer = GroupWriter(self._connect)
        self._readers = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._local = threading.local()
        self._at_once: sqlite3.Connection | None = None

    async def open(self) -> None:
        try:
            await asyncio.to_thread(self._migrate)
            self._at_once = self._connect(busy_s=0)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.path}: {error}") from error
        self._writer.start()

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.stop)
        self._readers.shutdown()
        if self._at_once is not None:
            self._at_once.close()
            self._at_once = None

    async def ping(self) -> None:
        await self._read(lambda db: db.execute("SELECT 1").fetchone())

    @property
    def durability_warning(self) -> str:
        return ""

    # Events -------------------------------------------------------------------------------------------------------

    async def add_events(self, events: Sequence[Event], marks: Sequence[Marks] = ()) -> list[Acceptance]:
        def apply(db: sqlite3.Connection) -> list[Acceptance]:
            return [_insert_event(db, event, one) for event, one in zip(events, marks or [()] * len(events))]

        return await self._writer.write(apply)

    async def num_events(self) -> int:
        row = await self._read(lambda db: db.execute("SELECT seq FROM sqlite_sequence WHERE name='events'").fetchone())
        return row[0] if row else 0

    async def item_counts(self) -> dict[tuple[str, str], int]:
        rows = await self._read(lambda db: db.execute("SELECT item_id, event, count FROM item_counts").fetchall())
        return {(item_id, event): count for item_id, event, count in rows}

    async def events_after(self, after: int, limit: int) -> list[tuple[int, Event]]:
        query = f"SELECT seq, {_EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return [(row[0], Event(*row[1:])) for row in await self._rows(query, after, limit)]

    # People -------------------------------------------------------------------------------------------------------

    async def user_state(self, user_id: str, marks: Marks, limit: int) -> UserState:
        texts, is_forgotten = await self._row_at_once(_USER_STATE, json.dumps(marks), user_id, limit)
        rows = sorted(from_json(texts), key=lambda row: (row[5] is not None, row[5], row[0]))
        return UserState(tuple(event_of(row) for row in rows), bool(is_forgotten))

    async def forgotten(self, tombstones: Sequence[str]) -> list[bool]:
        return await self._read(lambda db: [_is_forgotten(db, (one,)) for one in tombstones])

    async def put_user(self, user_id: str, fields: Mapping[str, Any], marks: Marks = ()) -> bool:
        def apply(db: sqlite3.Connection) -> bool:
            if _is_forgotten(db, marks):
                return False
            db.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (user_id, encoded(dict(fields))))
            return True

        return await self._writer.write(apply)

    async def get_user(self, user_id: str) -> dict[str, Any] | None:
        rows = await self._rows("SELECT fields FROM users WHERE user_id = ?", user_id)
        return json.loads(rows[0][0]) if rows else None

    async def users(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        after = ""
        query = f"SELECT user_id, fields FROM users WHERE user_id > ? ORDER BY user_id LIMIT {ROWS_AT_ONCE}"
        while rows := await self._rows(query, after):
            for user_id, fields in rows:
                yield user_id, json.loads(fields)
            after = rows[-1][0]

    async def user_events(self, user_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
        query = f"SELECT seq, {_EVENT} FROM events WHERE user_id = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [(row[0], Event(*row[1:])) for row in await self._rows(query, user_id, after, limit)]

    async def user_exposures(self, user_id: str) -> list[Exposure]:
        query = f"SELECT {_EXPOSURE} FROM exposures WHERE user_id = ? ORDER BY time_s, request_id"
        return [exposure_of(row) for row in await self._rows(query, user_id)]

    async def forget_user(self, user_id: str, tombstone: str, time_s: int) -> int:
        def apply(db: sqlite3.Connection) -> int:
            kinds = "SELECT item_id, event, COUNT(*) FROM events WHERE user_id = ? GROUP BY item_id, event"
            for item_id, event, count in db.execute(kinds, (user_id,)).fetchall():
                _count(db, item_id, event, -count)
            deleted = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
            db.execute("DELETE FROM exposures WHERE user_id = ?", (user_id,))
            db.execute("DELETE FROM users WHERE user_id = ?", (user_id,))
            db.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", (tombstone, time_s))
            return deleted

        deleted = await self._writer.write(apply)
        await self.clear_files()
        return deleted

    async def rename_users(self, rename: Callable[[str], str], name: str) -> int:
        def apply(db: sqlite3.Connection) -> int:
            if db.execute("SELECT value FROM meta WHERE name = ?", (RENAMING,)).fetchone() != (name,):
                db.create_function("renamed", 1, rename, deterministic=True)
                for table in ("events", "exposures", "users"):
                    db.execute(f"UPDATE {table} SET user_id = renamed(user_id)")
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (RENAMING, name))
            both = "SELECT user_id FROM events UNION SELECT user_id FROM users"
            return db.execute(f"SELECT COUNT(*) FROM ({both})").fetchone()[0]

        return await self._writer.write(apply)

    async def clear_files(self) -> None:
        """The write-ahead log still holds the old pages until it is emptied."""
        await self._read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    # Items --------------------------------------------------------------------------------------------------------

    async def put_items(self, items: Sequence[StoredItem]) -> list[str]:
        def apply(db: sqlite3.Connection) -> list[str]:
            query = "SELECT 1 FROM items WHERE item_id = ? AND is_withdrawn"
            shown = [item.item_id for item in items if not item.is_withdrawn]
            withdrawn = [item_id for item_id in shown if db.execute(query, (item_id,)).fetchone()]
            for item in () if withdrawn else items:
                row = (item.item_id, encoded(item.fields), item.is_live, item.is_withdrawn)
                db.execute(f"INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, {_NEXT_SEQ})", row)
            return withdrawn

        return await self._writer.write(apply)

    async def get_item(self, item_id: str) -> StoredItem | None:
        rows = await self._rows(f"SELECT {_ITEM} FROM items WHERE item_id = ?", item_id)
        return item_of(rows[0]) if rows else None

    async def withdraw_item(self, item_id: str) -> bool:
        query = f"UPDATE items SET is_withdrawn = 1, seq = {_NEXT_SEQ} WHERE item_id = ?"
        return await self._writer.write(lambda db: db.execute(query, (item_id,)).rowcount > 0)

    async def changed_items(self, after_seq: int, limit: int) -> list[StoredItem]:
        query = f"SELECT {_ITEM} FROM items WHERE seq > ? ORDER BY seq LIMIT ?"
        return [item_of(row) for row in await self._rows(query, after_seq, limit)]

    # Exposures ----------------------------------------------------------------------------------------------------

    async def add_exposures(self, exposures: Sequence[Exposure], marks: Sequence[Marks] = ()) -> None:
        def apply(db: sqlite3.Connection) -> None:
            rows = [
                (e.request_id, e.user_id, e.time_s, encoded(e.item_ids), encoded(e.scores), e.model_version,
                 encoded(dict(e.variants)), e.degraded)
                for e, one in zip(exposures, marks or [()] * len(exposures)) if not _is_forgotten(db, one)]  # fmt: skip
            db.executemany("INSERT OR IGNORE INTO exposures VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

        await self._writer.write(apply)

    async def exposures(self) -> AsyncIterator[Exposure]:
        after = (-1, "")
        query = (
            f"SELECT {_EXPOSURE} FROM exposures WHERE (time_s, request_id) > (?, ?) "
            f"ORDER BY time_s, request_id LIMIT {ROWS_AT_ONCE}"
        )
        while rows := await self._rows(query, *after):
            for row in rows:
                yield exposure_of(row)
            after = (rows[-1][2], rows[-1][0])

    # Keys and settings --------------------------------------------------------------------------------------------

    async def put_key(self, key: ApiKey) -> None:
        row = (key.key_id, key.secret_hash, " ".join(key.scopes), key.name, key.created_s, key.revoked_s,
               key.last_used_s)  # fmt: skip
        await self._writer.write(lambda db: db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)", row))

    async def get_key(self, key_id: str) -> ApiKey | None:
        row = await self._row_at_once(f"SELECT {_KEY} FROM keys WHERE key_id = ?", key_id)
        return key_of(row) if row else None

    async def keys(self) -> list[ApiKey]:
        return [key_of(row) for row in await self._rows(f"SELECT {_KEY} FROM keys ORDER BY created_s, key_id")]

    async def touch_key(self, key_id: str, time_s: int) -> None:
        query = "UPDATE keys SET last_used_s = ? WHERE key_id = ?"
        await self._writer.write(lambda db: db.execute(query, (time_s, key_id)))

    async def get_meta(self, name: str) -> str | None:
        rows = await self._rows("SELECT value FROM meta WHERE name = ?", name)
        return rows[0][0] if rows else None

    async def set_meta_once(self, name: str, value: str) -> str:
        def apply(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
            return db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]

        return await self._writer.write(apply)

    # The file -----------------------------------------------------------------------------------------------------

    async def backup(self, to: Path) -> None:
        """Copy the database to another file while it is in use; whole or not at all."""
        await self._read(lambda db: backup_database(db, to))

    def _migrate(self) -> None:
        connection = self._connect()
        schema.use_write_ahead_log(connection, BUSY_S)
        schema.migrate(connection)
        connection.close()

    def _connect(self, busy_s: float = BUSY_S) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        connection.execute(f"PRAGMA busy_timeout = {1000 * busy_s:.0f}")
        return connection

    async def _row_at_once(self, query: str, *arguments: Any) -> Any:
        """One row of a short read, in this thread: the way to another and back takes longer, and readers of a
        write-ahead log wait for nobody. Where the file is locked after all, another thread waits."""
        if self._at_once is not None:
            with suppress(sqlite3.Error):
                return self._at_once.execute(query, arguments).fetchone()
        return await self._read(lambda db: db.execute(query, arguments).fetchone())

    async def _rows(self, query: str, *arguments: Any) -> list[tuple]:
        return await self._read(lambda db: db.execute(query, arguments).fetchall())

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        def on_thread() -> T:
            if not hasattr(self._local, "connection"):
                self._local.connection = self._connect()
            return read(self._local.connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, on_thread)
        except (sqlite3.Error, RuntimeError) as error:  # RuntimeError: closed
            raise StoreUnavailable(f"SQLite: {error}") from error


def backup_database(source: sqlite3.Connection, to: Path) -> None:
    """SQLite's online backup into a new file beside `to`, which then takes its name."""
    partial = to.with_name(f".{to.name}.partial")
    partial.unlink(missing_ok=True)
    target = sqlite3.connect(partial)
    with target:
        source.backup(target)
    target.close()
    partial.replace(to)


def restore_database(copy: Path, to: Path) -> None:
    """Bring a copy back into a store's file, in one transaction that running gateways see whole.

    Raises sqlite3.Error where the copy is not a sound database.
    """
    source = sqlite3.connect(copy.resolve().as_uri() + "?mode=ro", uri=True)
    verdict = source.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    target = sqlite3.connect(to, timeout=BUSY_S)
    with target:
        source.backup(target)
        target.execute("DELETE FROM meta WHERE name = ?", (IDENTITY,))
    target.execute("PRAGMA journal_mode = WAL")
    target.close()
    source.close()


def _is_forgotten(db: sqlite3.Connection, marks: Marks) -> bool:
    query = "SELECT 1 FROM tombstones WHERE tombstone = ?"
    return any(db.execute(query, (mark,)).fetchone() for mark in marks)


def _insert_event(db: sqlite3.Connection, event: Event, marks: Marks) -> Acceptance:
    if _is_forgotten(db, marks):
        return Acceptance.FORGOTTEN
    # Looked up first: an insertion that is ignored would use up a number, and the numbers count the accepted events.
    if db.execute("SELECT 1 FROM events WHERE event_id = ?", (event.event_id,)).fetchone():
        return Acceptance.DUPLICATE
    row = (event.event_id, event.user_id, event.item_id, event.event, event.time_s, event.value, event.request_id)
    db.execute(f"INSERT INTO events ({_EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    _count(db, event.item_id, event.event, 1)
    return Acceptance.ACCEPTED


def _count(db: sqlite3.Connection, item_id: str, event: str, change: int) -> None:
    upsert = "ON CONFLICT (item_id, event) DO UPDATE SET count = count + excluded.count"
    db.execute(f"INSERT INTO item_counts VALUES (?, ?, ?) {upsert}", (item_id, event, change))
