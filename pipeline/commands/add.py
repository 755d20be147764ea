"""`zhiyin add`: new items are shown at once, before the next run places them in the index."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import catalog_updates, workflows
from pipeline import config as configuration
from pipeline.console import quiet_libraries

MOST_REJECTS = 5  # that are printed


def run(arguments: argparse.Namespace) -> int:
    """Encode the table's items with the served model, then change the newest served versions and the servers named."""
    quiet_libraries()
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
    print(
        f"{len(items):,} items added, {len(rejects):,} rejects; {told}. Put them into the catalogue too: the next run reads that alone."
    )
    if num_added >= config.serving.index.refresh_from:
        print(f"{num_added:,} items have come since the index was built (serving.index.refresh_from): it is built anew")
        workflows.refresh(config)
    return 0
