"""`zhiyin refresh`: the catalogue and the events as they are now, under the model that is served; no training."""

from __future__ import annotations

import argparse
import time

from pipeline import config as configuration
from pipeline.commands.arguments import Commands, add_command, add_config


def add_parser(commands: Commands) -> None:
    """`refresh --config FILE`."""
    command = add_command(
        commands,
        "refresh",
        "new catalogue and events, same model: features, vectors, index, push; no training",
        "./zhiyin refresh --config configs/movielens_100k.yaml",
        run,
    )
    add_config(command)


def run(arguments: argparse.Namespace) -> int:
    """Run the refresh DAG and say what was pushed."""
    from pipeline import rejects_report, workflows
    from pipeline.local_model import CurrentModel

    started = time.monotonic()
    config = configuration.load(arguments.config)
    stages = workflows.refresh(config)
    if rejects := rejects_report.rejects_line(config.work_path):
        print(rejects)
    if refusal := workflows.server_refusal(stages):
        print(f"not pushed: {refusal}; what is served stays")
        return 0
    version = CurrentModel(config).path
    print(
        f"refreshed without training: version {version.name} in {version.parent}, in {time.monotonic() - started:.0f} s"
    )
    return 0
