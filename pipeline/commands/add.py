"""`zhiyin add`: new items are shown at once, before the next run places them in the index."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, add_servers, user_path

MOST_REJECTS = 5  # that are printed


def add_parser(commands: Commands) -> None:
    """`add --config FILE --catalogue FILE [--server HOST:PORT]`."""
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


def run(arguments: argparse.Namespace) -> int:
    """Encode the table's items with the served model, then change the newest served versions and the servers named."""
    from pipeline import catalog_updates, workflows

    config = configuration.load(arguments.config)
    if not arguments.catalogue.is_file():
        raise SettingsError(f"--catalogue: there is no file {arguments.catalogue}")
    items, rejects = catalog_updates.encode(configuration.localised(config), arguments.catalogue.absolute())
    for row in rejects[:MOST_REJECTS]:
        place = f"{row['source']}{':' + str(row['line']) if row['line'] else ''}"
        print(f"rejected: {place} {row['item_id'] or ''} {row['reason']}: {row['detail']}")
    if not items:
        raise SettingsError(f"{arguments.catalogue}: no item was accepted")
    num_added = catalog_updates.add(config, items, arguments.server)
    told = (
        f"{len(arguments.server)} servers know"
        if arguments.server
        else "servers know when they load it (--server tells a running one)"
    )
    print(f"{len(items):,} items added, {len(rejects):,} rejects; {told}.")
    print("Put them into the catalogue too: the next run reads that alone.")
    if num_added >= config.serving.index.rebuild_after_inserts:
        setting = "serving.index.rebuild_after_inserts"
        print(f"{num_added:,} items have come since the index was built ({setting}): it is built anew")
        workflows.refresh(config)
    return 0
