"""`zhiyin explain`: what each interaction, each modality of the item and each field adds to its scores for a person."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, add_ids, add_json
from pipeline.ranked_lists import printable

if TYPE_CHECKING:
    from pipeline.attribution import Explanation


def add_parser(commands: Commands) -> None:
    """`explain --user ID ... --item ID ... [--top N] [--json]`."""
    command = add_command(
        commands,
        "explain",
        "why an item, or why not: what each part adds to its scores",
        "./zhiyin explain --user u0007 --item i0042",
        run,
    )
    add_config(command, DEMO_CONFIG)
    add_ids(command, "--user", required=True)
    add_ids(command, "--item", required=True)
    command.add_argument("--top", type=int, default=5, help="parts of each kind (default 5)")
    add_json(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask the current model about each item for each person.

    Shown are the largest parts of each score, and what is left as the rest.
    """
    if arguments.top < 1:
        raise SettingsError(f"--top: got {arguments.top}, expected at least 1")
    config = configuration.load(arguments.config)
    from pipeline.attribution import explain
    from pipeline.local_model import CurrentModel

    model = CurrentModel(config)
    model.require_items(arguments.items)
    titles = model.titles(set(arguments.items))
    for user_id in arguments.users:
        for item_id in arguments.items:
            explanation = explain(model, user_id, item_id)
            if arguments.json:
                print(_json_line(user_id, item_id, titles[item_id], explanation, arguments.top))
            else:
                _print(f"{item_id}  {titles[item_id]}, for {user_id}", explanation, arguments.top)
    return 0


def _json_line(user_id: str, item_id: str, title: str, explanation: Explanation, top: int) -> str:
    scores = []
    for score in explanation.scores:
        parts, rest = score.largest(top)
        named = [{"name": name, "value": value} for name, value in parts]
        scores.append({"what": score.what, "total": score.total, "parts": named, "rest": rest})
    found = {"user_id": user_id, "item_id": item_id, "title": title, "scores": scores, "notes": explanation.notes}
    return json.dumps(found, ensure_ascii=False)


def _print(heading: str, explanation: Explanation, top: int) -> None:
    """A block a score: a line for each of its largest parts, whatever their sign, and one for the rest."""
    print(f"{printable(heading)}\n")
    for score in explanation.scores:
        parts, rest = score.largest(top)
        print(f"{score.what}: {score.total:.4f}")
        for name, value in parts:
            print(f"  {value:+.4f}  {printable(name)}")
        print(f"  {rest:+.4f}  the rest\n")
    for note in explanation.notes:
        print(f"{note}\n")
