"""`zhiyin explain`: what each interaction, each modality of the item and each field adds to its scores for a person."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline.commands.arguments import DEMO_CONFIG, Commands, add_command, add_config, add_ids

if TYPE_CHECKING:
    import numpy as np

    from pipeline.config import Config
    from pipeline.local_model import ServedModel


def add_parser(commands: Commands) -> None:
    """`explain --user ID --item ID [--top N]`."""
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


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest pushed model; the largest parts of each kind, with what is left as the rest."""
    config = configuration.localised(configuration.load(arguments.config))
    from pipeline import local_model

    model = local_model.ServedModel(config)
    for user_id in arguments.users:
        for item_id in arguments.items:
            _explain(config, model, user_id, item_id, arguments.top)
    return 0


def _explain(config: Config, model: ServedModel, user_id: str, item_id: str, top: int) -> None:
    from pipeline import local_model
    from pipeline.attribution import score_parts

    why = model.explain(user_id, item_id)
    history = [name.decode() for name in why["history_ids"]]
    titles = local_model.titles(config, {item_id, *filter(None, history)})
    print(f"{item_id}  {titles[item_id]}, for {user_id}\n")
    by_item = [f"{name}  {titles[name]}" if name else "" for name in history]
    score = float(why["score"][0])
    _print("similarity to the taste", score, by_item, why["history_parts"][0], why["history_rest"][0], top)
    try:
        names, parts = score_parts(config, item_id, model.query(user_id), score)
        _print("the same by what is known of the item", score, names, parts, 0.0, top)
    except SettingsError as error:
        print(f"not told by what is known of the item: {error}\n")
    fields = [name.decode() for name in why["field_names"]]
    if fields:
        _print(
            "utility by the ranker",
            why["utility"][0],
            fields,
            why["field_parts"][0],
            why["field_rest"][0],
            top,
        )
    if not any(history):
        print(f"nothing is known of {user_id!r}: new people get what is popular lately")


def _print(what: str, total: float, names: list[str], parts: np.ndarray, rest: float, top: int) -> None:
    """A line for each of the largest parts, whatever their sign; the rest is everything else, so that the lines add up."""
    order = sorted(range(len(parts)), key=lambda place: -abs(parts[place]))[:top]
    shown = [place for place in order if names[place] and parts[place]]
    print(f"{what}: {total:.4f}")
    for place in shown:
        print(f"  {parts[place]:+.4f}  {names[place]}")
    print(f"  {rest + parts.sum() - parts[shown].sum():+.4f}  the rest\n")
