"""`zhiyin explain`: what each interaction, each modality of the item and each field adds to its scores for a person."""

from __future__ import annotations

import argparse

import numpy as np

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import local_model
from pipeline.attribution import score_parts
from pipeline.console import quiet_libraries


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest pushed model; the largest parts of each kind, with what is left as the rest."""
    quiet_libraries()
    config = configuration.localised(configuration.load(arguments.config))
    model = local_model.ServedModel(config)
    why = model.explain(arguments.user, arguments.item)
    history = [name.decode() for name in why["history_ids"]]
    titles = local_model.titles(config, {arguments.item, *filter(None, history)})
    print(f"{arguments.item}  {titles[arguments.item]}, for {arguments.user}\n")
    by_item = [f"{name}  {titles[name]}" if name else "" for name in history]
    score = float(why["score"][0])
    _print("similarity to the taste", score, by_item, why["history_parts"][0], why["history_rest"][0], arguments.top)
    try:
        names, parts = score_parts(config, arguments.item, model.query(arguments.user), score)
        _print("the same by what is known of the item", score, names, parts, 0.0, arguments.top)
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
            arguments.top,
        )
    if not any(history):
        print(f"nothing is known of {arguments.user!r}: new people get what is popular lately")
    return 0


def _print(what: str, total: float, names: list[str], parts: np.ndarray, rest: float, top: int) -> None:
    """A line for each of the largest parts, whatever their sign; the rest is everything else, so that the lines add up."""
    order = np.argsort(-np.abs(parts), kind="stable")[:top]
    shown = [place for place in order if names[place] and parts[place]]
    print(f"{what}: {total:.4f}")
    for place in shown:
        print(f"  {parts[place]:+.4f}  {names[place]}")
    print(f"  {rest + parts.sum() - parts[shown].sum():+.4f}  the rest\n")
