"""`zhiyin report`: what a run did and how good its model is, as one HTML file; or two runs side by side."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config


def add_parser(commands: Commands) -> None:
    """`report [RUN [RUN]] [--config FILE]`."""
    command = add_command(
        commands,
        "report",
        "write the report of a run, or two runs side by side, as one HTML file",
        "./zhiyin report --config configs/demo.yaml",
        run,
    )
    command.add_argument(
        "run_ids", metavar="RUN", nargs="*", default=[], help="id of `./zhiyin runs` or its beginning (default: newest)"
    )
    add_config(command, DEMO_CONFIG)


def run(arguments: argparse.Namespace) -> int:
    """Write it and print its place."""
    if len(arguments.run_ids) > 2:
        raise SettingsError(f"RUN: got {len(arguments.run_ids)}, expected two at most")
    config = configuration.load(arguments.config)
    from pipeline.report import write

    if len(arguments.run_ids) == 2:
        print(write.write_two(config, *arguments.run_ids))
    else:
        print(write.write_run(config, *arguments.run_ids))
    return 0
