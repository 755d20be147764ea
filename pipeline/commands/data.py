"""`zhiyin data`: a known source as the three tables of the data contract."""

from __future__ import annotations

import argparse
from pathlib import Path


def run(arguments: argparse.Namespace) -> int:
    """Write the tables and say what they hold."""
    from pipeline.sources import registry

    folder = arguments.output or Path("data") / arguments.name
    summary = registry.prepare(
        arguments.name, folder, source=arguments.source, fetch=arguments.fetch, seed=arguments.seed
    )
    print(f"{summary} in {folder}")
    return 0
