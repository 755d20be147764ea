"""`zhiyin tune`: search better settings of the retrieval model, and say how to use them."""

from __future__ import annotations

import argparse
import dataclasses
import time

import yaml

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import Commands, add_command, add_config
from trainer.config.tuning import TuningConfig


def add_parser(commands: Commands) -> None:
    """`tune --config FILE [--trials N] [--seconds S]`."""
    command = add_command(
        commands,
        "tune",
        "search better settings of the retrieval model",
        "./zhiyin tune --config configs/movielens_100k.yaml --trials 30 --seconds 1200",
        run,
    )
    add_config(command)
    command.add_argument("--trials", type=int, help="trainings at most (default: tuning.trials, 20)")
    command.add_argument("--seconds", type=float, help="of all trials together (default: tuning.seconds, 1800)")


def run(arguments: argparse.Namespace) -> int:
    """Run the DAG as far as the tuner, a line a trial, and print the best settings as YAML."""
    from pipeline import workflows

    started = time.monotonic()
    config = configuration.load(arguments.config)
    asked = {name: value for name in ("trials", "seconds") if (value := getattr(arguments, name)) is not None}
    try:
        config = dataclasses.replace(config, tuning=dataclasses.replace(config.tuning or TuningConfig(), **asked))
    except ValueError as error:
        raise SettingsError(f"tuning: {error}") from error
    found = workflows.tune(config)
    metric = config.retrieval.metric
    start = "" if found["start_value"] is None else f", {found['start_value']:.4f} as configured"
    print(
        f"{metric} {found['value']:.4f} on validation{start}; {len(found['trials'])} trials. In {arguments.config}:\n"
    )
    print(yaml.safe_dump({"retrieval": found["best"]}, sort_keys=False))
    seconds = time.monotonic() - started
    print(f"then ./zhiyin run --config {arguments.config}; a tuning: section makes each run tune ({seconds:.0f} s)")
    return 0
