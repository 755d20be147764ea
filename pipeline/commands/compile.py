"""`zhiyin compile`: the KFP v2 job of the training DAG."""

from __future__ import annotations

import argparse
import datetime

from pipeline import config as configuration
from pipeline import kubeflow


def run(arguments: argparse.Namespace) -> int:
    """Refuse what could not run in a cluster, compile, and say what was written."""
    config = configuration.load(arguments.config)
    kubeflow.check(config, arguments.output)
    from pipeline.console import quiet_libraries

    quiet_libraries()
    compiled_at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    job = kubeflow.compile_pipeline(config, arguments.output, fingerprint=compiled_at)
    rows = kubeflow.summary(job)
    for node, image, entry in rows:
        print(f"  {node:22s} {image:40s} {entry}")
    print(f"{len(rows)} nodes for {arguments.target} in {arguments.output}")
    return 0
