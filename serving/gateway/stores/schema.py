"""The SQLite schema and its migrations, one script a version."""

from __future__ import annotations

import sqlite3
import time

MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        item_id TEXT NOT NULL,
        event TEXT NOT NULL,
        time_s INTEGER,
        value REAL,
        request_id TEXT NOT NULL
    );
    CREATE INDEX events_of_user ON events (user_id, time_s, seq);
    CREATE TABLE item_counts (
        item_id TEXT NOT NULL,
        event TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (item_id, event)
    ) WITHOUT ROWID;
    CREATE TABLE users (user_id TEXT PRIMARY KEY, fields TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE tombstones (tombstone TEXT PRIMARY KEY, time_s INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE items (
        item_id TEXT PRIMARY KEY,
        fields TEXT NOT NULL,
        is_live INTEGER NOT NULL,
        is_withdrawn INTEGER NOT NULL,
        seq INTEGER NOT NULL UNIQUE
    );
    CREATE TABLE exposures (
        request_id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL,
        time_s INTEGER NOT NULL,
        item_ids TEXT NOT NULL,
        scores TEXT NOT NULL,
        model_version INTEGER NOT NULL,
        variants TEXT NOT NULL,
        degraded TEXT NOT NULL
    );
    CREATE INDEX exposures_of_user ON exposures (user_id, time_s);
    CREATE TABLE keys (
        key_id TEXT PRIMARY KEY,
        secret_hash TEXT NOT NULL,
        scopes TEXT NOT NULL,
        name TEXT NOT NULL,
        created_s INTEGER NOT NULL,
        revoked_s INTEGER NOT NULL,
        last_used_s INTEGER NOT NULL
    );
    """,
)


class SchemaTooNew(RuntimeError):
    """The file was written by a later release."""


def use_write_ahead_log(connection: sqlite3.Connection, busy_s: float) -> None:
    """Where two processes make one file at the same time, SQLite refuses one of them at once, whatever its time limit:
    it is asked again for so long. Raises sqlite3.OperationalError after that.
    """
    until = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> int:
    """Bring a database to the newest version, a migration a transaction; returns how many were applied.

    Raises SchemaTooNew where the file is of a later release.
    """
    applied = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")  # two processes may start on one file
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version >= len(migrations):
            connection.execute("ROLLBACK")
            break
        for statement in migrations[version].split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
        applied += 1
    if version > len(migrations):
        raise SchemaTooNew(
            f"the store has schema version {version}, this release knows {len(migrations)}: update zhiyin"
        )
    return applied
