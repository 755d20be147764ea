"""`zhiyin run`: the pipeline of a configuration, from its tables to a pushed model."""

from __future__ import annotations

import argparse
import time

from pipeline import config as configuration
from pipeline.commands.arguments import Commands, add_command, add_config


def add_parser(commands: Commands) -> None:
    """`run --config FILE`."""
    command = add_command(
        commands,
        "run",
        "run the pipeline of a configuration",
        "./zhiyin run --config configs/movielens_100k.yaml",
        run,
    )
    add_config(command)


def run(arguments: argparse.Namespace) -> int:
    """Run the DAG, print the table of metrics, and say where the model is and how to serve it."""
    from pipeline import summary, workflows

    started = time.monotonic()
    config = configuration.load(arguments.config)
    stages = workflows.train(config)
    evaluation = workflows.evaluation(stages)
    rows = evaluation["rows"] + workflows.ground_truth_rows(config, stages)
    print(summary.metrics(rows, workflows.refit_account(stages)))
    refusal = workflows.server_refusal(stages)
    print(summary.last_line(config, arguments.config, evaluation, time.monotonic() - started, refusal))
    return 0
