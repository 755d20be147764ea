"""`zhiyin purge`: removes what old runs left behind, and with it every trace of people who asked to be forgotten.

With --keep it makes room instead: the newest runs stay, and nothing is said of who is forgotten.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config
from pipeline.run_lock import one_run_at_a_time
from pipeline.versions import versions_in
from serving.gateway.privacy import Pseudonyms, load_keys, tombstones_of
from serving.gateway.stores.base import StoreUnavailable, open_store

# In the work folder; rejected rows may name people, too.
LEFT_BY_RUNS = ("artifacts", "checkpoints", "tuning", "snapshots", "report", "rejects.csv", "metadata.sqlite")
CUT_OFF = ("lists-*", ".rejects.csv.partial", "serving/*/.incoming")  # runs and lists that were
IDS_AT_ONCE = 1000


def add_parser(commands: Commands) -> None:
    """`purge --config FILE [--store URL | --keep N] [--dry-run]`."""
    command = add_command(
        commands,
        "purge",
        "remove old runs, versions and checkpoints, which may hold people who asked to be forgotten",
        "./zhiyin purge --config configs/demo.yaml",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("--store", default="", help="as of `up`")
    command.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="make room: keep the newest N runs, the current one and the last blessed one, whoever is forgotten",
    )
    command.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")


def run(arguments: argparse.Namespace) -> int:
    """Remove everything but the newest version of each served model, or all runs but the newest few."""
    config = configuration.load(arguments.config)
    if not config.work_path.is_dir():
        raise SettingsError(f"there is no work folder {config.work_path}: nothing has run yet")
    if arguments.keep is not None:
        return _make_room(config, arguments.keep, arguments.dry_run)
    with one_run_at_a_time(config.work_path):
        return _forget(config, arguments)


def _make_room(config: configuration.Config, keep: int, is_dry: bool) -> int:
    """Remove the artifacts and versions that belong to none of the runs that stay."""
    if keep < 0:
        raise SettingsError(f"--keep: got {keep}, expected 0 or more")
    from pipeline.run_listing import plan_purge

    with one_run_at_a_time(config.work_path):
        plan = plan_purge(config, keep)
        size_mib = plan.size_bytes / 1024**2
        if is_dry:
            for path in plan.paths:
                print(path)
        else:
            for path in plan.paths:
                _remove(path)
    would = "would go" if is_dry else "removed"
    print(f"purge: {len(plan.removed):,} runs {would}, {len(plan.paths):,} folders of {size_mib:,.1f} MiB")
    print(f"kept: {', '.join(plan.kept) or 'none'}")
    return 0


def _forget(config: configuration.Config, arguments: argparse.Namespace) -> int:
    """Remove all but the newest versions, once they know nobody who was forgotten. The next run computes all anew."""
    url = arguments.store or store_tables.default_store(config)
    removed = [path for pattern in (*LEFT_BY_RUNS, *CUT_OFF) for path in sorted(config.work_path.glob(pattern))]
    for versions in filter(None, map(versions_in, config.serving_path.glob("*"))):
        known = asyncio.run(_forgotten_in(config, url, versions[-1]))
        if known:
            raise SettingsError(
                f"{versions[-1]}: the served model still knows {known:,} of the people who asked to be forgotten: "
                f"run ./zhiyin loop --once --config {arguments.config} first, which learns without them"
            )
        removed += versions[:-1]
    if arguments.dry_run:
        for path in removed:
            print(path)
        return 0
    from serving.offline.blessing import mark_gone

    mark_gone(str(config.work_path / "blessed"))
    count = sum(_remove(path) for path in removed)
    print(f"purge: {count:,} files and folders removed from {config.work_path}; the newest versions stay.")
    print(
        "The tables that the configuration names are yours: they are not touched, "
        "and the store does not take those people over again."
    )
    return 0


async def _forgotten_in(config: configuration.Config, url: str, version: Path) -> int:
    """How many of the people that a version knows by id have a tombstone."""
    file = version / "assets" / "user_ids.txt"
    user_ids = file.read_text(encoding="utf-8").split("\n")[1:-1] if file.is_file() else []
    try:
        pseudonyms, store = Pseudonyms(load_keys(config.gateway.privacy)), open_store(url)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    try:
        await store.open()
        tombstones = await tombstones_of(store)
        both = [tombstones(one) for user_id in user_ids for one in sorted(pseudonyms.later(user_id))]
        found = [await store.forgotten(both[at : at + IDS_AT_ONCE]) for at in range(0, len(both), IDS_AT_ONCE)]
    except StoreUnavailable as error:
        raise SettingsError(f"--store: {error}") from error
    finally:
        await store.close()
    return sum(map(sum, found))


def _remove(path: Path) -> int:
    """How many files and folders went."""
    if path.is_dir():
        count = 1 + sum(1 for _ in path.rglob("*"))
        shutil.rmtree(path)
        return count
    if path.is_file():
        path.unlink()
        return 1
    return 0
