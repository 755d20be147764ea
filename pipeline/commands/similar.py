"""`zhiyin similar`: the items nearest to one, by the similarity that the configuration names (`serving.similar_by`)."""

from __future__ import annotations

import argparse

from pipeline import config as configuration
from pipeline.commands.arguments import (
    DEMO_CONFIG,
    Commands,
    add_command,
    add_config,
    add_ids,
    add_json,
    add_top_k,
    check_top_k,
)
from pipeline.commands.recommend import print_list
from pipeline.ranked_lists import json_line, printable, why_short

LEFT_OUT = "the item itself, or not out yet"


def add_parser(commands: Commands) -> None:
    """`similar --item ID ... [--k N] [--json]`."""
    command = add_command(
        commands, "similar", "items like one item, by serving.similar_by", "./zhiyin similar --item m0007 --k 5", run
    )
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--item", required=True)
    add_top_k(command, "items")
    add_json(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask the current model."""
    check_top_k(arguments)
    config = configuration.load(arguments.config)
    from pipeline.local_model import CurrentModel

    model = CurrentModel(config)
    for ranked in model.similar(arguments.items, arguments.k):
        note = why_short(ranked, arguments.k, model.num_shown, LEFT_OUT)
        titles = model.titles({ranked.key, *ranked.item_ids})
        if arguments.json:
            print(json_line("item_id", ranked, titles, note))
        else:
            print(f"like {printable(ranked.key)}  {printable(titles[ranked.key])}")
            print_list(ranked, titles, note)
    return 0
