"""`zhiyin tune`: search better settings of the retrieval model, and say how to use them."""

from __future__ import annotations

import argparse
import dataclasses
import time

import yaml

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import workflows
from trainer.config.tuning import TuningConfig


def run(arguments: argparse.Namespace) -> int:
    """Run the DAG as far as the tuner, a line a trial, and print the best settings as YAML."""
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
    print(
        f"then ./zhiyin run --config {arguments.config}; a tuning: section makes each run tune ({time.monotonic() - started:.0f} s)"
    )
    return 0
