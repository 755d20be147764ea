"""`zhiyin add`: new items are shown at once, before the next run places them in the index."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import (
    DEMO_CONFIG,
    Commands,
    add_command,
    add_config,
    add_gateway,
    add_servers,
    gateway_of,
    user_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    from components.config import DataConfig
    from pipeline.gateway_client import GatewayClient

MOST_REJECTS = 5  # that are printed


def add_parser(commands: Commands) -> None:
    """`add --config FILE --catalogue FILE [--server HOST:PORT | --gateway URL]`."""
    command = add_command(
        commands,
        "add",
        "show new items at once, before the next run",
        "./zhiyin add --config configs/demo.yaml --catalogue new.csv --server localhost:8500",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument(
        "--catalogue", type=user_path, required=True, help="a table with the columns of the catalogue; media as there"
    )
    add_servers(command)
    add_gateway(command)


def run(arguments: argparse.Namespace) -> int:
    """Encode the table's items with the served model, then change the newest served versions and the servers named.

    With a gateway they go to it: it encodes them and tells its model servers.
    """
    gateway = gateway_of(arguments, {"--server": arguments.server})
    config = configuration.load(arguments.config)
    if not arguments.catalogue.is_file():
        raise SettingsError(f"--catalogue: there is no file {arguments.catalogue}")
    if gateway is not None:
        return _add_to(gateway, configuration.localised(config).data, arguments.catalogue.absolute())
    from pipeline import catalog_updates, workflows

    local = configuration.localised(config)
    items, rejects, version = catalog_updates.encode(local, arguments.catalogue.absolute())
    _print_rejects(rejects)
    if not items:
        raise SettingsError(f"{arguments.catalogue}: no item was accepted")
    num_added = catalog_updates.add(config, items, version, arguments.server)
    told = (
        f"{len(arguments.server)} servers know"
        if arguments.server
        else "servers know when they load it (--server tells a running one)"
    )
    print(f"{len(items):,} items added, {len(rejects):,} rejects; {told}.")
    if num_added < config.serving.index.rebuild_after_inserts:
        print("Put them into the catalogue too: the next run reads that alone.")
        return 0
    setting = "serving.index.rebuild_after_inserts"
    came = f"{num_added:,} items have come since the index was built ({setting})"
    if missing := catalog_updates.outside_catalogue(local):
        print(
            f"{came}, and {len(missing):,} of them are not in data.catalogue.path, as {missing[0]!r}: put them there, "
            f"then ./zhiyin refresh --config {arguments.config}"
        )
    else:
        print(f"{came}: it is built anew")
        if refusal := workflows.server_refusal(workflows.refresh(config)):
            print(f"not pushed: {refusal}; what is served stays")
    return 0


def _add_to(gateway: GatewayClient, data: DataConfig, table: Path) -> int:
    from components.tables.raw import TableError
    from components.tables.readers import Row
    from pipeline.gateway_client import item_body
    from pipeline.table_rows import read_rows

    try:
        rows = list(read_rows(replace(data, catalogue=replace(data.catalogue, path=str(table))), "catalogue"))
    except TableError as error:
        raise SettingsError(f"--catalogue: {error}") from error
    rejects = [row for row in rows if not isinstance(row, Row)]
    bodies = {row.values["item_id"]: item_body(row.values, data) for row in rows if isinstance(row, Row)}
    _print_rejects(rejects)
    added = gateway.add(bodies.values())
    for item_id, fault in [*added.refused.items()][:MOST_REJECTS]:
        print(f"rejected: {table} {item_id} {fault}")
    num_added = len(added.shown) + len(added.waiting)
    if not num_added:
        raise SettingsError(f"{table}: no item was accepted")
    num_rejects = len(rejects) + len(added.refused)
    print(f"{num_added:,} items added, {num_rejects:,} rejects; {len(added.shown):,} are shown by every model server.")
    for item_id, reason in [*added.waiting.items()][:MOST_REJECTS]:
        print(f"waiting: {item_id} {reason}")
    return 0


def _print_rejects(rejects: Sequence[dict[str, Any]]) -> None:
    for row in rejects[:MOST_REJECTS]:
        place = f"{row['source']}{':' + str(row['line']) if row['line'] else ''}"
        print(f"rejected: {place} {row['item_id'] or ''} {row['reason']}: {row['detail']}")
