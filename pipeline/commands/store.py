"""`zhiyin store`: backup and restore of the service's SQLite file."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from pathlib import Path

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, user_path
from serving.gateway.stores.base import StoreUnavailable
from serving.gateway.stores.sqlite import SqliteStore, restore_database


def add_parser(commands: Commands) -> None:
    """`store backup|restore --file FILE`."""
    command = add_command(
        commands,
        "store",
        "copy the service's store to a file while it runs, or bring a copy back",
        "./zhiyin store backup --file backup.sqlite",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("action", choices=["backup", "restore"])
    command.add_argument("--file", type=user_path, required=True, help="the copy")
    command.add_argument("--store", default="", help="the SQLite file (default: in the work folder)")


def run(arguments: argparse.Namespace) -> int:
    """Copy one way or the other; both may run beside a service."""
    config = configuration.load(arguments.config)
    url = (arguments.store or store_tables.default_store(config)).removeprefix("sqlite://")
    if "://" in url:
        raise SettingsError(
            f"store: {store_tables.shown(url)} is no SQLite file; docs/service.md says how Redis is saved"
        )
    path = Path(url).absolute()
    source = path if arguments.action == "backup" else arguments.file
    if not source.is_file():
        raise SettingsError(f"there is no store {source}")
    try:
        if arguments.action == "backup":
            asyncio.run(_backup(path, arguments.file))
        else:
            restore_database(arguments.file, path)
    except (StoreUnavailable, sqlite3.Error) as error:
        raise RuntimeError(f"{source}: {error}") from error
    print(f"{arguments.action}: {source} is now {arguments.file if arguments.action == 'backup' else path} too")
    return 0


async def _backup(path: Path, to: Path) -> None:
    store = SqliteStore(str(path))
    await store.open()
    try:
        await store.backup(to)
    finally:
        await store.close()
