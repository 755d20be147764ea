"""Tables go into a store once, and come out as files that the readers read; the same state gives the same bytes."""

import asyncio
import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.datasets.exposures import read_exposures
from components.settings import SettingsError, from_mapping
from components.tables.columns import table_and_columns
from components.tables.inspection import inspect_table
from components.tables.readers import Row, read_rows
from pipeline import store_tables
from pipeline.catalog_updates import withdrawn
from pipeline.config import Config
from serving.gateway.config import PrivacyConfig
from serving.gateway.privacy import Pseudonyms, load_keys, tombstones_of
from serving.gateway.records import Event, Exposure, StoredItem
from serving.gateway.stores.base import open_store

ITEMS = [
    {"item_id": "a", "title": "Ähre", "tags": "x|y", "published_at": "2024-01-02T03:04:05Z"},
    {"item_id": "b", "title": "", "tags": "", "published_at": ""},
]
EVENTS = [
    {"user_id": "u", "item_id": "a", "timestamp": "1700000000", "event": "like", "value": ""},
    {"user_id": "u", "item_id": "a", "timestamp": "1700000000", "event": "like", "value": ""},  # an exact copy
    {"user_id": "v", "item_id": "b", "timestamp": "1700000050", "event": "rating", "value": "4.5"},
    {"user_id": "v", "item_id": "b", "timestamp": "1700000060", "event": "unheard of", "value": ""},
]
USERS = [{"user_id": "u", "age_group": "25-34"}]


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def config(tmp_path):
    tables = {"catalogue": ITEMS, "events": EVENTS, "users": USERS}
    data = {name: {"path": write(tmp_path / f"{name}.csv", rows)} for name, rows in tables.items()}
    mapping = {
        "name": "small",
        "work_dir": str(tmp_path / "work"),
        "data": {**data, "user_categorical": ["age_group"]},
        "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0},
    }
    (tmp_path / "work").mkdir()
    return from_mapping(Config, mapping)


def on_store(config, work):
    async def go():
        store = open_store(store_tables.default_store(config))
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(go())


def rows_of(config, name):
    table, columns = table_and_columns(config.data, name)
    facts = inspect_table(table, columns)
    rows = [row for path in facts.files for row in read_rows(path, columns, facts)]
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.values for row in rows]


def test_the_environment_may_name_the_store_and_its_password_is_not_shown(config, monkeypatch):
    assert store_tables.default_store(config).endswith("store.sqlite")
    monkeypatch.setenv(store_tables.STORE_VARIABLE, "redis://:secret@stores:6379/2")
    assert store_tables.default_store(config) == "redis://:secret@stores:6379/2"
    assert store_tables.shown(store_tables.default_store(config)) == "redis://***@stores:6379/2"
    assert store_tables.shown("/runs/demo/store.sqlite") == "/runs/demo/store.sqlite"


def test_the_people_of_the_tables_who_were_forgotten_are_told_to_a_run(config):
    assert store_tables.forgotten_people(config) == "", "there is no store"

    async def forget(store):
        tombstones = await tombstones_of(store)
        for user_id in ("v", "somebody whom no table has"):
            await store.forget_user(user_id, tombstones(user_id), 5)

    on_store(config, lambda store: store.user_state("v", (), 1))
    assert store_tables.forgotten_people(config) == "", "nobody asked for it"
    on_store(config, forget)
    path = Path(store_tables.forgotten_people(config))
    assert path.read_text() == '"v"\n'
    assert path.stat().st_mode & 0o077 == 0
    assert store_tables.forgotten_people(config) == str(path), "the same people have the same name in the cache"


def test_who_was_forgotten_before_a_rotation_is_told_to_a_run(config, tmp_path):
    key_file = tmp_path / "pseudonyms.key"
    key_file.write_text("11" * 32)
    privacy = PrivacyConfig(pseudonyms=True, key_file=str(key_file))
    config = replace(config, gateway=replace(config.gateway, privacy=privacy))

    async def forget(store):
        kept_as = Pseudonyms(load_keys(privacy))("v")
        await store.forget_user(kept_as, (await tombstones_of(store))(kept_as), 5)

    on_store(config, forget)
    assert Path(store_tables.forgotten_people(config)).read_text() == '"v"\n'
    key_file.write_text("11" * 32 + "\n" + "22" * 32)
    assert Path(store_tables.forgotten_people(config)).read_text() == '"v"\n'


def test_tables_are_taken_over_once(config):
    first = on_store(config, lambda store: store_tables.import_tables(config, store))
    assert (first.items, first.events, first.users) == (2, 2, 1)
    again = on_store(config, lambda store: store_tables.import_tables(config, store))
    assert (again.items, again.events, again.users) == (0, 0, 0)


def test_a_snapshot_is_read_as_the_tables_were_with_what_has_happened_since(config):
    on_store(config, lambda store: store_tables.import_tables(config, store))

    async def happen(store):
        await store.add_events([Event("e1", "u", "new", "play", 1_700_000_100)])
        await store.put_items([StoredItem("new", {"title": "New", "duration_s": 2.5, "tags": ["z"]}, is_live=True)])
        await store.withdraw_item("b")

    on_store(config, happen)
    taken = store_tables.resolved(store_tables.with_store(config))
    assert rows_of(taken, "catalogue") == [
        {"item_id": "a", "title": "Ähre", "tags": ["x", "y"], "published_at": 1704164645},
        {"item_id": "b"},
        {"item_id": "new", "title": "New", "duration_s": 2.5, "tags": ["z"]},
    ]
    assert rows_of(taken, "events") == [
        {"user_id": "u", "item_id": "a", "timestamp": 1700000000, "event": "like"},
        {"user_id": "v", "item_id": "b", "timestamp": 1700000050, "event": "rating", "value": 4.5},
        {"user_id": "u", "item_id": "new", "timestamp": 1_700_000_100, "event": "play"},
    ]
    assert rows_of(taken, "users") == [{"user_id": "u", "age_group": "25-34"}]
    assert withdrawn(config) == ["b"], "no later version shows it"


def test_the_same_state_gives_the_same_bytes_and_another_state_another_name(config):
    on_store(config, lambda store: store_tables.import_tables(config, store))
    first, second = (store_tables.resolved(store_tables.with_store(config)).data.events.path for _ in range(2))
    assert first == second
    time_ns = Path(first).stat().st_mtime_ns
    store_tables.resolved(store_tables.with_store(config))
    assert Path(first).stat().st_mtime_ns == time_ns, "else the cache takes it for another"
    assert not [*Path(first).parents[1].glob(".*partial")]
    on_store(config, lambda store: store.add_events([Event("e1", "u", "a", "play", 1_700_000_100)]))
    third = store_tables.resolved(store_tables.with_store(config)).data.events.path
    assert third != first
    with gzip.open(first, "rt", encoding="utf-8") as snapshot:
        lines = snapshot.readlines()
    assert len(lines) == 2, "the snapshot of before is still what it was"
    assert all(json.loads(line)["user_id"] in "uv" for line in lines)


def test_who_was_forgotten_is_not_taken_over_again(config):
    on_store(config, lambda store: store_tables.import_tables(config, store))

    async def forget(store):
        await store.forget_user("v", (await tombstones_of(store))("v"), 5)
        return await store_tables.import_tables(config, store)

    assert on_store(config, forget).events == 0
    taken = store_tables.resolved(store_tables.with_store(config))
    assert [row["user_id"] for row in rows_of(taken, "events")] == ["u"]


def test_files_stay_files_and_a_missing_store_is_named(config):
    assert store_tables.resolved(config) is config
    with pytest.raises(SettingsError, match="there is no store"):
        store_tables.resolved(store_tables.with_store(config))


def test_lists_that_were_shown_become_a_table_of_shown_items(config):
    shown = [
        Exposure("r1", "u", 1_700_000_000, ("b", "a"), (0.9, 0.5), variants={"diversity": "more"}),
        Exposure("r2", "v", 1_700_000_100, ("a",), (0.4,)),
    ]
    on_store(config, lambda store: store.add_exposures(shown))
    taken = store_tables.resolved(store_tables.with_store(config)).data.exposures
    with gzip.open(taken, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    first = {"request_id": "r1", "user_id": "u", "timestamp": 1_700_000_000, "variant": "diversity=more"}
    assert rows == [
        {**first, "item_id": "b", "position": 1},
        {**first, "item_id": "a", "position": 2},
        {**first, "request_id": "r2", "user_id": "v", "timestamp": 1_700_000_100, "variant": "", "item_id": "a",
         "position": 1},
    ]  # fmt: skip
    lists = read_exposures(taken, ["a", "b"])
    assert [found.tolist() for found in lists.holding("u", 0, 1_700_000_060.0, 3600.0)] == [[1, 0], [1, 2]]


def test_without_a_store_there_are_no_exposures(config):
    assert store_tables.resolved(config).data.exposures == ""
