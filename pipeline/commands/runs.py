"""`zhiyin runs`: the runs of a work folder, what they gave, what they take, and which one is served."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, add_json
from pipeline.console import table

if TYPE_CHECKING:
    from pipeline.run_listing import RunSummary

MIB = 1024**2


def add_parser(commands: Commands) -> None:
    """`runs [--config FILE] [--json]`."""
    command = add_command(
        commands,
        "runs",
        "list the runs with their data, headline numbers and sizes, and say which one is served",
        "./zhiyin runs --config configs/demo.yaml",
        run,
    )
    add_config(command, DEMO_CONFIG)
    add_json(command)


def run(arguments: argparse.Namespace) -> int:
    """Print a line a run, the newest last."""
    config = configuration.load(arguments.config)
    from pipeline.run_listing import summaries

    found = summaries(config)
    if arguments.json:
        for summary in found:
            print(json.dumps(asdict(summary)))
    elif found:
        header = ["run", "kind", "items", "events", "metric", "ours", "popularity", "blessed", "MiB", "version", ""]
        print(table(header, map(_cells, found)))
    else:
        print(f"no run in {config.work_path}")
    return 0


def _cells(summary: RunSummary) -> list[str]:
    note = "current" if summary.is_current else f"failed at {summary.failed_at}" if summary.failed_at else ""
    blessed = "–" if summary.is_blessed is None else "yes" if summary.is_blessed else "no"
    numbers = [f"{value:.4f}" if value is not None else "–" for value in (summary.value, summary.popularity)]
    return [
        summary.run_id,
        summary.kind,
        f"{summary.items:,}",
        f"{summary.events:,}",
        summary.metric or "–",
        *numbers,
        blessed,
        f"{summary.size_bytes / MIB:,.1f}",
        summary.version or "–",
        note,
    ]
