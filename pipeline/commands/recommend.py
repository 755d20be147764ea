"""`zhiyin recommend`: one person's list on the terminal, or everybody's in a file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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
    user_path,
)

if TYPE_CHECKING:
    from pipeline.local_model import Answer

ENDINGS = (".csv", ".parquet")


def add_parser(commands: Commands) -> None:
    """`recommend --user ID | --all-users [--k N] [--output FILE]`."""
    command = add_command(
        commands,
        "recommend",
        "recommend to one person, or to all into a file",
        "./zhiyin recommend --user u0001 --k 5",
        run,
    )
    add_config(command, DEMO_CONFIG)
    whom = command.add_mutually_exclusive_group(required=True)
    add_ids(whom, "--user")
    whom.add_argument("--all-users", action="store_true", help="everybody in the events; needs --output")
    add_top_k(command, "items a person")
    command.add_argument("--output", type=user_path, help="CSV or Parquet: user_id, rank, item_id, score")


def run(arguments: argparse.Namespace) -> int:
    """Ask the newest pushed model."""
    check_top_k(arguments)
    if arguments.all_users and (arguments.output is None or arguments.output.suffix not in ENDINGS):
        raise SettingsError(f"--all-users needs --output FILE with one of the endings {', '.join(ENDINGS)}")
    config = configuration.load(arguments.config)
    from pipeline import local_model

    model = local_model.ServedModel(config)
    if arguments.all_users:
        user_ids = model.ids("user")
        rows = local_model.write_bulk(model.recommend(user_ids, arguments.k), arguments.output, total=len(user_ids))
        print(f"{rows:,} rows for {len(user_ids):,} people in {arguments.output}")
        return 0
    answers = list(model.recommend(arguments.users, arguments.k))
    titles = local_model.titles(config, {item_id for answer in answers for item_id in answer.item_ids})
    for answer in answers:
        if len(answers) > 1:
            print(f"for {answer.key}:")
        print_answer(answer, titles)
        if answer.fallback:
            print(f"nothing is known of {answer.key!r}: this is what new people get")
    return 0


def print_answer(answer: Answer, titles: dict[str, str]) -> None:
    """A line an item: rank, score, id, domain and title."""
    for rank, (item_id, score) in enumerate(zip(answer.item_ids, answer.scores), start=1):
        print(f"  {rank:3d}  {score:8.4f}  {item_id:12s}  {titles[item_id]}")
