"""`zhiyin withdraw`: items are shown no more, at once and for good; or again."""

from __future__ import annotations

import argparse

from pipeline import catalog_updates
from pipeline import config as configuration
from pipeline.console import quiet_libraries


def run(arguments: argparse.Namespace) -> int:
    """Change the newest served versions and the servers named."""
    quiet_libraries()
    config = configuration.load(arguments.config)
    change = catalog_updates.restore if arguments.restore else catalog_updates.withdraw
    change(config, arguments.item, arguments.server)
    told = (
        f"{len(arguments.server)} servers know"
        if arguments.server
        else "servers know when they load it (--server tells a running one)"
    )
    print(f"{', '.join(arguments.item)}: {'shown again' if arguments.restore else 'withdrawn'}; {told}")
    return 0
