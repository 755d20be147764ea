"""`zhiyin similar`: the items nearest to one, by the similarity that the configuration names (`serving.similar_by`)."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import local_model
from pipeline.commands.recommend import print_answer


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest pushed model."""
    if arguments.k < 1:
        raise SettingsError(f"--k: got {arguments.k}, expected at least 1")
    config = configuration.load(arguments.config)
    answer = local_model.ServedModel(config).similar(arguments.item, arguments.k)
    if not answer.item_ids:
        raise SettingsError(f"--item: the catalogue of the pushed model has no item {arguments.item!r}")
    titles = local_model.titles(config, {arguments.item, *answer.item_ids})
    print(f"like {arguments.item}  {titles[arguments.item]}")
    print_answer(answer, titles)
    return 0
