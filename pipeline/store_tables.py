"""The tables in a service's store: filled from files when a service starts, read by a run as the source `store:`."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from components.config import DataConfig, TableConfig
from components.settings import SettingsError
from pipeline.config import STORE_SOURCE, Config
from pipeline.table_rows import accepted_rows
from serving.gateway.privacy import Pseudonyms, load_keys, marks_of, tombstones_of
from serving.gateway.records import Acceptance, Event, StoredItem
from serving.gateway.stores.base import Store, StoreUnavailable, open_store

STORE_VARIABLE = "ZHIYIN_STORE"
ROWS_AT_ONCE = 1000
_READS = ("catalogue", "events", "users")
_EXPOSURES = "exposures"


@dataclass(frozen=True)
class Imported:
    """Rows of the configured tables that a store took over."""

    items: int = 0
    events: int = 0
    users: int = 0


def default_store(config: Config) -> str:
    """The address that the environment names (`ZHIYIN_STORE`: it may hold a password), else a SQLite file."""
    return os.environ.get(STORE_VARIABLE) or str(config.work_path / "store.sqlite")


def shown(url: str) -> str:
    """A store's address without its password, for screens and logs."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl() if "@" in parts.netloc else url


def is_store(path: str) -> bool:
    """Whether a table's path names a store."""
    return path.startswith(STORE_SOURCE)


async def import_tables(config: Config, store: Store) -> Imported:
    """Take the configured tables into an open store.

    What it has already stays: events by their values, items that came over the API.

    Raises TableError where a table cannot be read.
    """
    data = config.data
    users = 0 if data.users is None or is_store(data.users.path) else await _import_users(config, store)
    items = 0 if is_store(data.catalogue.path) else await _import_items(data, store)
    events = 0 if is_store(data.events.path) else await _import_events(config, store)
    return Imported(items, events, users)


async def _import_items(data: DataConfig, store: Store) -> int:
    known: dict[str, StoredItem] = {}
    after = 0
    while found := await store.changed_items(after, ROWS_AT_ONCE):
        known |= {item.item_id: item for item in found}
        after = found[-1].seq
    count = 0
    for batch in _batches(accepted_rows(data, "catalogue")):
        items = [StoredItem(row.pop("item_id"), row) for row in batch]
        new = [item for item in items if _is_news(item, known.get(item.item_id))]
        if new:
            rows = [replace(item, is_withdrawn=_is_withdrawn(known, item)) for item in new]
            if gone := await store.put_items(rows):  # withdrawn since they were read
                await store.put_items([replace(one, is_withdrawn=True) if one.item_id in gone else one for one in rows])
        count += len(new)
    return count


def _is_news(item: StoredItem, known: StoredItem | None) -> bool:
    return known is None or (not known.is_live and known.fields != item.fields)


def _is_withdrawn(known: dict[str, StoredItem], item: StoredItem) -> bool:
    return item.item_id in known and known[item.item_id].is_withdrawn


async def _import_events(config: Config, store: Store) -> int:
    pseudonyms, tombstones = Pseudonyms(load_keys(config.gateway.privacy)), await tombstones_of(store)
    count = 0
    for batch in _batches(accepted_rows(config.data, "events")):
        batch = [row for row in batch if row.get("event", "play") in config.data.event_rules]
        events = [_event(row, pseudonyms(row["user_id"])) for row in batch]
        marks = [marks_of(tombstones, pseudonyms, row["user_id"]) for row in batch]
        done = await store.add_events(events, marks)
        count += done.count(Acceptance.ACCEPTED)
    return count


def _event(row: dict[str, Any], user_id: str) -> Event:
    kind, time_s, value = row.get("event", "play"), row.get("timestamp"), row.get("value")
    text = json.dumps([user_id, row["item_id"], kind, time_s, value, row.get("split")], ensure_ascii=False)
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return Event(f"table-{name}", user_id, row["item_id"], kind, time_s, value)


async def _import_users(config: Config, store: Store) -> int:
    pseudonyms, tombstones = Pseudonyms(load_keys(config.gateway.privacy)), await tombstones_of(store)
    count = 0
    for row in accepted_rows(config.data, "users"):
        said_as = row.pop("user_id")
        user_id = pseudonyms(said_as)
        if await store.get_user(user_id) is None:
            count += await store.put_user(user_id, row, marks_of(tombstones, pseudonyms, said_as))
    return count


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def with_store(config: Config, url: str = "") -> Config:
    """The configuration with every table from a store. url: of another store than the pipeline's own."""
    table = TableConfig(path=STORE_SOURCE + url)
    users = table if config.data.users is not None else None
    return replace(config, data=replace(config.data, catalogue=table, events=table, users=users, exposures=table.path))


def resolved(config: Config) -> Config:
    """The configuration with tables from a store written to files, and withdrawn items noted; unchanged where none is.

    The files are a snapshot: their folder is named by a digest of what they hold; the same name means the same bytes.
    Raises SettingsError where a store cannot be read.
    """
    from pipeline import catalog_updates

    tables: dict[str, Any] = {}
    if is_store(config.data.events.path) and config.data.split.kind == "given":
        raise SettingsError("data.split.kind: events of a store are in no given split; choose time or time_per_user")
    for name in _READS:
        table = getattr(config.data, name)
        if table is not None and is_store(table.path):
            path, withdrawn = _snapshot_of(config, name, table.path)
            if withdrawn:
                catalog_updates.note_withdrawn(config, withdrawn)
            span = {"earliest_time": table.earliest_time, "latest_time": table.latest_time}
            tables[name] = TableConfig(path=str(path), timestamp_unit="s", **span)
    if is_store(config.data.exposures):
        tables[_EXPOSURES] = str(_snapshot_of(config, _EXPOSURES, config.data.exposures)[0])
    return replace(config, data=replace(config.data, **tables)) if tables else config


def _snapshot_of(config: Config, name: str, source: str) -> tuple[Path, list[str]]:
    """As `_snapshot`, of the store that a source names. Raises SettingsError where it cannot be read."""
    url = source.removeprefix(STORE_SOURCE) or default_store(config)
    try:
        return asyncio.run(_snapshot(url, name, config.work_path / "snapshots"))
    except (StoreUnavailable, ValueError) as error:
        raise SettingsError(f"data.{name}: {error}") from error


def forgotten_people(config: Config) -> str:
    """A file with the ids of people in the configured tables whom the pipeline's store knows as forgotten.

    A JSON text a line; the file is named by a digest of what it holds. "" where there is no store or nobody of them.
    Raises SettingsError where the store or a table cannot be read.
    """
    from components.tables.raw import TableError

    url = default_store(config)
    if "://" not in url and not Path(url).is_file():
        return ""
    tables = [name for name in ("events", "users") if getattr(config.data, name) is not None]
    try:
        ids = sorted({row["user_id"] for name in tables for row in accepted_rows(config.data, name)})
        gone = asyncio.run(_forgotten(config, ids))
    except TableError as error:
        raise SettingsError(str(error)) from error
    except (StoreUnavailable, ValueError) as error:
        raise SettingsError(f"the store {shown(url)}: {error}") from error
    if not gone:
        return ""
    text = "".join(json.dumps(user_id) + "\n" for user_id in gone)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    path = config.work_path / "snapshots" / digest / "forgotten.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return str(path)


async def _forgotten(config: Config, user_ids: Sequence[str]) -> list[str]:
    """Those of some people whom the store knows as forgotten, under their own id or any that they were kept under."""
    pseudonyms, store = Pseudonyms(load_keys(config.gateway.privacy)), open_store(default_store(config))
    await store.open()
    try:
        tombstones = await tombstones_of(store)
        gone = []
        for start in range(0, len(user_ids), ROWS_AT_ONCE):
            part = user_ids[start : start + ROWS_AT_ONCE]
            marks = {one: (tombstones(one), *marks_of(tombstones, pseudonyms, one)) for one in part}
            asked = [mark for of_person in marks.values() for mark in of_person]
            stands = dict(zip(asked, await store.forgotten(asked)))
            gone += [user_id for user_id in part if any(map(stands.get, marks[user_id]))]
    finally:
        await store.close()
    return gone


async def _snapshot(url: str, name: str, folder: Path) -> tuple[Path, list[str]]:
    """One table of a store as gzipped JSON lines; and the ids of withdrawn items."""
    if "://" not in url and not Path(url).is_file():
        raise SettingsError(f"there is no store {shown(url)}: zhiyin up makes it")
    store = open_store(url)
    await store.open()
    withdrawn: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    partial, digest = folder / f".{name}.{os.getpid()}.partial", hashlib.blake2b(digest_size=16)
    try:
        with partial.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            async for row in _SNAPSHOTS[name](store, withdrawn):
                _write(packed, digest, row)
        path = folder / digest.hexdigest() / f"{name}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():  # else the file of these rows stays as it is: its time is part of the cache's keys
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        await store.close()
    return path, withdrawn


def _write(file: IO[bytes] | gzip.GzipFile, digest: Any, row: dict[str, Any]) -> None:
    line = (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n").encode()
    digest.update(line)
    file.write(line)


async def _items_of(store: Store, withdrawn: list[str]) -> AsyncIterator[dict[str, Any]]:
    items: dict[str, StoredItem] = {}
    after = 0
    while found := await store.changed_items(after, ROWS_AT_ONCE):
        items |= {item.item_id: item for item in found}
        after = found[-1].seq
    for item_id in sorted(items):
        if items[item_id].is_withdrawn:
            withdrawn.append(item_id)  # it stays in the catalogue: histories hold it
        yield {"item_id": item_id, **items[item_id].fields}


async def _events_of(store: Store, withdrawn: list[str]) -> AsyncIterator[dict[str, Any]]:
    del withdrawn
    async for event in store.events():
        row = {"user_id": event.user_id, "item_id": event.item_id, "event": event.event}
        optional = {"timestamp": event.time_s, "value": event.value}
        yield {**row, **{name: value for name, value in optional.items() if value is not None}}


async def _users_of(store: Store, withdrawn: list[str]) -> AsyncIterator[dict[str, Any]]:
    del withdrawn
    async for user_id, fields in store.users():
        yield {"user_id": user_id, **fields}


async def _exposures_of(store: Store, withdrawn: list[str]) -> AsyncIterator[dict[str, Any]]:
    """A row a shown item; what was taken of it is in the events."""
    del withdrawn
    async for shown in store.exposures():
        variant = ",".join(f"{experiment}={arm}" for experiment, arm in sorted(shown.variants.items()))
        row = {"request_id": shown.request_id, "user_id": shown.user_id, "timestamp": shown.time_s, "variant": variant}
        for position, item_id in enumerate(shown.item_ids, 1):
            yield {**row, "item_id": item_id, "position": position}


_SNAPSHOTS = {"catalogue": _items_of, "events": _events_of, "users": _users_of, _EXPOSURES: _exposures_of}
