"""`zhiyin keys`: who may call the service, and the key of its pseudonyms."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config
from serving.gateway import api_keys, privacy
from serving.gateway.stores.base import Store, StoreUnavailable, open_store


def add_parser(commands: Commands) -> None:
    """`keys add|list|revoke|make-pseudonyms|rotate-pseudonyms`."""
    command = add_command(
        commands,
        "keys",
        "make, list and revoke API keys; make and rotate the key of pseudonyms",
        "./zhiyin keys add --name shop --scope read --scope write",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("action", choices=["add", "list", "revoke", "make-pseudonyms", "rotate-pseudonyms"])
    command.add_argument("--name", default="", help="add: what the key is for")
    command.add_argument(
        "--scope", action="append", choices=api_keys.SCOPES, help="add: may be repeated (default read, write)"
    )
    command.add_argument("--key", metavar="ID", default="", help="revoke: the part between zy_ and the second _")
    command.add_argument("--store", default="", help="as of `up`")


def run(arguments: argparse.Namespace) -> int:
    """Do one of the actions."""
    config = configuration.load(arguments.config)
    actions: dict[str, Callable[[Store], Awaitable[str]]] = {
        "add": lambda store: _add(store, arguments.name, tuple(arguments.scope or ("read", "write"))),
        "list": _list,
        "revoke": lambda store: _revoke(store, arguments.key),
        "rotate-pseudonyms": lambda store: _rotate(store, config),
    }
    if arguments.action == "make-pseudonyms":
        print(_make_pseudonyms(config))
        return 0
    url = arguments.store or store_tables.default_store(config)
    if "://" not in url:
        Path(url).parent.mkdir(parents=True, exist_ok=True)

    async def go() -> str:
        store = open_store(url)
        await store.open()
        try:
            return await actions[arguments.action](store)
        finally:
            await store.close()

    try:
        print(asyncio.run(go()))
    except (StoreUnavailable, ValueError) as error:
        raise SettingsError(str(error)) from error
    return 0


async def _add(store: Store, name: str, scopes: tuple[str, ...]) -> str:
    token, key = api_keys.make_key(name, scopes, int(time.time()))
    await store.put_key(key)
    return f"{token}\nshown this once; from now on every call needs a key"


async def _list(store: Store) -> str:
    def line(key) -> str:
        state = "revoked" if key.revoked_s else "valid"
        used = time.strftime("%Y-%m-%d %H:%M", time.gmtime(key.last_used_s)) if key.last_used_s else "never used"
        return f"{key.key_id}  {state:8s} {','.join(key.scopes):18s} {used:17s} {key.name}"

    return "\n".join(map(line, await store.keys())) or "no keys: the service answers everybody, on loopback alone"


async def _revoke(store: Store, key_id: str) -> str:
    if not await api_keys.revoke(store, key_id, int(time.time())):
        raise ValueError(f"--key: there is no key {key_id!r}; ./zhiyin keys list shows them")
    return f"{key_id}: revoked"


def _make_pseudonyms(config: configuration.Config) -> str:
    """A new key file where there is none."""
    file = _key_file(config)
    if file.exists():
        raise SettingsError(f"gateway.privacy.key_file: {file} is there already; rotate-pseudonyms adds a key")
    _append_key(file, secrets.token_bytes(privacy.MIN_KEY_BYTES))
    return f"{file}: keep it apart from the store and its backups"


async def _rotate(store: Store, config: configuration.Config) -> str:
    """Re-key every person in the store. The gateways must be stopped: they would write under the old key.

    The new key lies in a file of its own before anybody is kept under it, and a rotation that was cut short goes on
    with it: people under a key that nobody has any more would be lost.
    """
    file = _key_file(config)
    keys, waiting = privacy.read_keys(file), privacy.rotating(file)
    if not waiting.exists():
        partial = waiting.with_name(f"{waiting.name}.partial")
        partial.unlink(missing_ok=True)
        _append_key(partial, secrets.token_bytes(privacy.MIN_KEY_BYTES))
        partial.rename(waiting)
    (key,) = privacy.read_keys(waiting)
    renamed = privacy.Pseudonyms([key])
    try:
        count = await store.rename_users(renamed, renamed.fingerprint)
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{error}; some people may be renamed: call rotate-pseudonyms again to go on") from error
    if keys[-1] != key:
        _append_key(file, key)
        assert privacy.read_keys(file) == [*keys, key]
    waiting.unlink()
    done = f"{count:,} people have new pseudonyms; {file} holds the new key beside the old ones"
    try:
        await store.clear_files()
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{done}; the store's files may hold the old pseudonyms still: {error}") from error
    return f"{done}. Start the gateways again"


def _key_file(config: configuration.Config) -> Path:
    settings = config.gateway.privacy
    if not settings.pseudonyms or not settings.key_file:
        raise SettingsError("gateway.privacy: pseudonyms and key_file must be set for this")
    return Path(settings.key_file)


def _append_key(file: Path, key: bytes) -> None:
    """A line more, on disk when this returns; the last one may be without its end."""
    file.touch(mode=0o600)
    with file.open("r+", encoding="ascii") as keys:
        end = "" if keys.read()[-1:] in ("", "\n") else "\n"
        keys.write(f"{end}{key.hex()}\n")
        keys.flush()
        os.fsync(keys.fileno())
