"""`zhiyin compile`: the KFP v2 job of the training DAG."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from pipeline import config as configuration
from pipeline import kubeflow
from pipeline.commands.arguments import Commands, add_command, add_config, user_path


def add_parser(commands: Commands) -> None:
    """`compile --config FILE --target kubeflow|vertex [--output FILE]`."""
    command = add_command(
        commands,
        "compile",
        "write the pipeline for Kubeflow or Vertex",
        "./zhiyin compile --target vertex --config my.yaml --output job.json",
        run,
    )
    add_config(command)
    command.add_argument("--target", choices=["kubeflow", "vertex"], required=True)
    command.add_argument(
        "--output", type=user_path, default=Path("pipeline.json"), help=".json or .yaml (default pipeline.json)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Refuse what could not run in a cluster, compile, and say what was written."""
    config = configuration.load(arguments.config)
    kubeflow.check(config, arguments.output)
    compiled_at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    job = kubeflow.compile_pipeline(config, arguments.output, compiled_at, arguments.target)
    rows = kubeflow.summary(job)
    for node, image, entry in rows:
        print(f"  {node:22s} {image:40s} {entry}")
    print(f"{len(rows)} nodes for {arguments.target} in {arguments.output}")
    return 0
