"""`zhiyin withdraw`: items are shown no more, at once and for good; or again."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import (
    DEMO_CONFIG,
    Commands,
    add_command,
    add_config,
    add_gateway,
    add_ids,
    add_servers,
    gateway_of,
)


def add_parser(commands: Commands) -> None:
    """`withdraw --item ID [--restore] [--server HOST:PORT | --gateway URL]`."""
    command = add_command(
        commands,
        "withdraw",
        "show items no more, at once and for good",
        "./zhiyin withdraw --config configs/demo.yaml --item i0042 --server localhost:8500",
        run,
    )
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--item", required=True)
    command.add_argument("--restore", action="store_true", help="show them again")
    add_servers(command)
    add_gateway(command)


def run(arguments: argparse.Namespace) -> int:
    """Change the newest served versions and the servers named, or what a running service holds."""
    gateway = gateway_of(arguments, {"--server": arguments.server, "--restore": arguments.restore})
    if gateway is not None:
        unknown = gateway.withdraw(arguments.items)
        if gone := [item_id for item_id in arguments.items if item_id not in unknown]:
            print(f"{', '.join(gone)}: withdrawn; the service and its model servers know")
        if unknown:
            raise SettingsError(f"--item: the service has no item {', '.join(map(repr, unknown))}")
        return 0
    from pipeline import catalog_updates

    config = configuration.load(arguments.config)
    change = catalog_updates.restore if arguments.restore else catalog_updates.withdraw
    change(config, arguments.items, arguments.server)
    told = (
        f"{len(arguments.server)} servers know"
        if arguments.server
        else "servers know when they load it (--server tells a running one)"
    )
    print(f"{', '.join(arguments.items)}: {'shown again' if arguments.restore else 'withdrawn'}; {told}")
    return 0
