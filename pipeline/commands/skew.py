"""`zhiyin skew`: what the newest version was asked in serving, beside what it was trained on."""

from __future__ import annotations

import argparse

from pipeline import config as configuration
from pipeline import store_tables
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config
from pipeline.commands.loop import DRIFTED


def add_parser(commands: Commands) -> None:
    """`skew [--config FILE] [--store URL]`."""
    command = add_command(
        commands,
        "skew",
        "compare the requests that the newest version answered with what it was trained on",
        "./zhiyin skew --config configs/demo.yaml",
        run,
    )
    add_config(command, DEMO_CONFIG)
    command.add_argument("--store", default="", help="as of `up`")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write it beside the report and into it, and print it. DRIFTED where a limit is exceeded."""
    config = configuration.load(arguments.config)
    from pipeline.drift.record import write_skew
    from pipeline.drift.skew import skew_of
    from pipeline.report.write import FOLDER, write_run

    skew = skew_of(config, arguments.store or store_tables.default_store(config))
    write_skew(skew, config.work_path / FOLDER)
    print(f"version {skew.version} was asked by {skew.people:,} people")
    for measure in skew.measures:
        print(f"{measure.name:40} {measure.value:10.3g}  limit {measure.limit:g}{'  *' * measure.is_exceeded}")
    if skew.people < config.drift.min_people_asked:
        print(f"fewer than {config.drift.min_people_asked:,} (drift.min_people_asked): nothing is said of serving")
    print(write_run(config))
    return DRIFTED if skew.exceeded else 0
