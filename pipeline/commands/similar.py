"""`zhiyin similar`: the items nearest to one, by content, by behaviour or by both."""

from __future__ import annotations

import argparse

from components.contract import BEHAVIOUR, BOTH, CONTENT, VIEWS
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

LEFT_OUT = ("the item itself", "not out yet")
LEFT_OUT_BY = {CONTENT: ("without content",), BEHAVIOUR: ("taken by nobody so far",)}


def add_parser(commands: Commands) -> None:
    """`similar --item ID ... [--by content | behaviour | both] [--k N] [--json]`."""
    command = add_command(commands, "similar", "items like one item", "./zhiyin similar --item m0007 --by content", run)
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--item", required=True)
    meaning = "what makes items alike: what they are (content), who takes them (behaviour), or both"
    command.add_argument("--by", choices=(BOTH, *VIEWS), default=BOTH, help=f"{meaning}; default: {BOTH}")
    add_top_k(command, "items")
    add_json(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask the current model."""
    check_top_k(arguments)
    config = configuration.load(arguments.config)
    from pipeline.local_model import CurrentModel

    model = CurrentModel(config)
    for ranked in model.similar(arguments.items, arguments.k, arguments.by):
        left_out = (*LEFT_OUT, *LEFT_OUT_BY.get(ranked.by, ()))
        note = why_short(ranked, arguments.k, model.num_shown, left_out, config)
        if ranked.by and ranked.by != arguments.by:
            note = "; ".join(filter(None, (f"nothing is known of it by {arguments.by} alone: by {ranked.by}", note)))
        titles = model.titles({ranked.key, *ranked.item_ids})
        if arguments.json:
            print(json_line("item_id", ranked, titles, note))
        else:
            print(f"like {printable(ranked.key)}  {printable(titles[ranked.key])}")
            print_list(ranked, titles, note)
    return 0
