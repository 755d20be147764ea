"""`zhiyin similar`: the items nearest to one, by the similarity that the configuration names (`serving.similar_by`)."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import (
    DEMO_CONFIG,
    Commands,
    add_command,
    add_config,
    add_ids,
    add_top_k,
    check_top_k,
)
from pipeline.commands.recommend import print_answer


def add_parser(commands: Commands) -> None:
    """`similar --item ID [--k N]`."""
    command = add_command(
        commands, "similar", "items like one item, by serving.similar_by", "./zhiyin similar --item m0007 --k 5", run
    )
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--item", required=True)
    add_top_k(command, "items")


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest pushed model."""
    check_top_k(arguments)
    config = configuration.load(arguments.config)
    from pipeline import local_model

    model = local_model.ServedModel(config)
    for item_id in arguments.items:
        answer = model.similar(item_id, arguments.k)
        if not answer.item_ids:
            raise SettingsError(f"--item: the catalogue of the pushed model has no item {item_id!r}")
        titles = local_model.titles(config, {item_id, *answer.item_ids})
        print(f"like {item_id}  {titles[item_id]}")
        print_answer(answer, titles)
    return 0
