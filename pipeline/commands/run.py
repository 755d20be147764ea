"""`zhiyin run`: the pipeline of a configuration, from its tables to a pushed model."""

from __future__ import annotations

import argparse
import time

from pipeline import config as configuration
from pipeline import running, tables


def run(arguments: argparse.Namespace) -> int:
    """Run the DAG, print the table of metrics, and say where the model is and how to serve it."""
    started = time.monotonic()
    config = configuration.load(arguments.config)
    stages = running.train(config)
    evaluation = running.evaluation(stages)
    print(tables.metrics(evaluation["rows"]))
    print(tables.last_line(config, arguments.config, evaluation, time.monotonic() - started))
    return 0
