"""`zhiyin recommend`: one person's list on the terminal, or everybody's in a file."""

from __future__ import annotations

import argparse

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import local_model

ENDINGS = (".csv", ".parquet")


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest pushed model."""
    if arguments.k < 1:
        raise SettingsError(f"--k: got {arguments.k}, expected at least 1")
    if arguments.all_users and (arguments.output is None or arguments.output.suffix not in ENDINGS):
        raise SettingsError(f"--all-users needs --output FILE with one of the endings {', '.join(ENDINGS)}")
    config = configuration.load(arguments.config)
    model = local_model.ServedModel(config)
    if arguments.all_users:
        user_ids = model.ids("user")
        rows = local_model.write_bulk(model.recommend(user_ids, arguments.k), arguments.output, total=len(user_ids))
        print(f"{rows:,} rows for {len(user_ids):,} people in {arguments.output}")
        return 0
    (answer,) = model.recommend([arguments.user], arguments.k)
    print_answer(answer, local_model.titles(config, set(answer.item_ids)))
    if answer.fallback:
        print(f"nothing is known of {arguments.user!r}: this is what new people get")
    return 0


def print_answer(answer: local_model.Answer, titles: dict[str, str]) -> None:
    """A line an item: rank, score, id, domain and title."""
    for rank, (item_id, score) in enumerate(zip(answer.item_ids, answer.scores), start=1):
        print(f"  {rank:3d}  {score:8.4f}  {item_id:12s}  {titles[item_id]}")
