"""`zhiyin demo`: a small made world with real media files, the whole line on it, and five people's answers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from components.settings import SettingsError
from pipeline import cli, local_model, summary, workflows
from pipeline import config as configuration
from pipeline.commands.recommend import print_answer

PEOPLE = 5


def run(arguments: argparse.Namespace) -> int:
    """Make the world where it is not there yet, train on it, and show what came out."""
    started = time.monotonic()
    config = configuration.load(cli.DEMO_CONFIG)
    from pipeline.sources import registry

    world = Path(config.data.media_root)
    made = registry.prepare("demo", world, seed=arguments.seed)
    print(f"world: {made} in {world}")

    stages = workflows.train(config)
    evaluation = workflows.evaluation(stages)
    print(summary.metrics(evaluation["rows"] + workflows.references(config, stages)))

    try:
        model = local_model.ServedModel(config)
    except SettingsError:  # the first model of all was not good enough; the last line says why
        model = None
    if model:
        everyone = model.ids("user")
        chosen = everyone[:: max(len(everyone) // PEOPLE, 1)][:PEOPLE]
        for answer in model.recommend(chosen, k=5):
            print(f"\nfor {answer.key}:")
            print_answer(answer, local_model.titles(config, set(answer.item_ids)))
    print()
    print(
        summary.last_line(
            config,
            cli.DEMO_CONFIG.relative_to(Path.cwd()) if cli.DEMO_CONFIG.is_relative_to(Path.cwd()) else cli.DEMO_CONFIG,
            evaluation,
            time.monotonic() - started,
        )
    )
    return 0
