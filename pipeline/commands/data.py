"""`zhiyin data`: a known source as the three tables of the data contract."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.arguments import Commands, add_command, user_path


def add_parser(commands: Commands) -> None:
    """`data NAME [--source PATH | --fetch] [--output FOLDER]`."""
    command = add_command(
        commands,
        "data",
        "write the three tables of a known source",
        "./zhiyin data movielens-100k --source recbole-1.2.1-py3-none-any.whl",
        run,
    )
    command.add_argument("name", choices=["demo", "movielens-100k", "lastfm-2k", "soundtracks", "pictures"])
    command.add_argument("--source", type=user_path, help="folder, archive or wheel that holds the raw data")
    command.add_argument(
        "--fetch", action="store_true", help="get the raw data from a package index instead of --source"
    )
    command.add_argument("--output", type=user_path, help="folder to write (default data/NAME)")
    command.add_argument("--seed", type=int, default=0, help="of the demo world (default 0)")


def run(arguments: argparse.Namespace) -> int:
    """Write the tables and say what they hold."""
    from pipeline.sources import registry

    folder = arguments.output or Path("data") / arguments.name
    summary = registry.prepare(
        arguments.name, folder, source=arguments.source, fetch=arguments.fetch, seed=arguments.seed
    )
    print(f"{summary} in {folder}")
    return 0
