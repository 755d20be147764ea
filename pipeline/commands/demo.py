"""`zhiyin demo`: a small made world with real media files, the whole line on it, and five people's answers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command
from pipeline.commands.recommend import print_list

PEOPLE = 5


def add_parser(commands: Commands) -> None:
    """`demo [--seed N]`."""
    command = add_command(
        commands, "demo", "make a small world with real media files, train on it, recommend", "./zhiyin demo", run
    )
    command.add_argument("--seed", type=int, default=0, help="of the world (default 0)")


def run(arguments: argparse.Namespace) -> int:
    """Make the world where it is not there yet, train on it, and show what came out."""
    started = time.monotonic()
    from pipeline import summary, workflows
    from pipeline.local_model import CurrentModel
    from pipeline.sources import registry

    config = configuration.load(DEMO_CONFIG)

    world = Path(config.data.media_root)
    made = registry.prepare("demo", world, seed=arguments.seed)
    print(f"world: {made} in {world}")

    stages = workflows.train(config)
    evaluation = workflows.evaluation(stages)
    rows = evaluation["rows"] + workflows.ground_truth_rows(config, stages)
    print(summary.metrics(rows, workflows.refit_account(stages)))
    refusal = workflows.server_refusal(stages)

    try:
        model = CurrentModel(config)
    except SettingsError:  # the first model of all was not good enough; the last line says why
        model = None
    if model:
        everyone = model.ids("user")
        chosen = everyone[:: max(len(everyone) // PEOPLE, 1)][:PEOPLE]
        for ranked in model.recommend(chosen, k=5):
            print(f"\nfor {ranked.key}:")
            print_list(ranked, model.titles(set(ranked.item_ids)))
    print()
    here = Path.cwd()
    shown_path = DEMO_CONFIG.relative_to(here) if DEMO_CONFIG.is_relative_to(here) else DEMO_CONFIG
    print(summary.last_line(config, shown_path, evaluation, time.monotonic() - started, refusal))
    return 0
