"""`zhiyin recommend`: ranked lists for some people on the terminal, or for everybody in a file."""

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
    add_gateway,
    add_ids,
    add_json,
    add_top_k,
    check_top_k,
    gateway_of,
    user_path,
)
from pipeline.console import remark
from pipeline.ranked_lists import (
    ENDINGS,
    check_output,
    json_line,
    moment,
    printable,
    text_lines,
    why_short,
    write_table,
)

if TYPE_CHECKING:
    from pipeline.gateway_client import GatewayClient
    from pipeline.local_model import CurrentModel, RankedList

LEFT_OUT = ("in the person's history", "not out yet")


def add_parser(commands: Commands) -> None:
    """`recommend --user ID ... | --all-users [--k N] [--at TIME] [--json] [--output FILE] [--gateway URL]`."""
    command = add_command(
        commands,
        "recommend",
        "recommend to people, or to all into a file",
        "./zhiyin recommend --user u0001 --k 5",
        run,
    )
    add_config(command, DEMO_CONFIG)
    whom = command.add_mutually_exclusive_group(required=True)
    add_ids(whom, "--user")
    whom.add_argument(
        "--all-users", action="store_true", help="everybody in the events and the users table; needs --output or --json"
    )
    add_top_k(command, "items a person")
    command.add_argument(
        "--at",
        metavar="TIME",
        help="as of this time: 2024-05-31, 2024-05-31T18:00:00Z or seconds since 1970 (default: the last event known)",
    )
    add_json(command)
    command.add_argument("--output", type=user_path, help="CSV or Parquet: user_id, rank, item_id, score")
    add_gateway(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask the current model, or the running service."""
    check_top_k(arguments)
    local_flags = {"--all-users": arguments.all_users, "--at": arguments.at, "--output": arguments.output}
    if (gateway := gateway_of(arguments, local_flags)) is not None:
        return _ask(gateway, arguments)
    check_output(arguments.output)
    if arguments.all_users and arguments.output is None and not arguments.json:
        raise SettingsError(f"--all-users needs --output FILE with one of the endings {', '.join(ENDINGS)}, or --json")
    at_s = 0 if arguments.at is None else moment(arguments.at)
    config = configuration.load(arguments.config)
    from pipeline.local_model import CurrentModel

    model = CurrentModel(config)
    user_ids = everybody(model) if arguments.all_users else arguments.users
    if arguments.all_users and config.engine.beam.runner != "direct":
        from pipeline import bulk_lists  # seconds

        lists = bulk_lists.lists(model, user_ids, arguments.k, at_s)
    else:
        lists = model.recommend(user_ids, arguments.k, at_s)
    if arguments.output is not None:
        rows, shortest = write_table(lists, arguments.output, total=len(user_ids))
        short = f"; the shortest list has {shortest:,} of {arguments.k:,} items" if shortest < arguments.k else ""
        print(f"{rows:,} rows for {len(user_ids):,} people in {arguments.output}{short}")
        return 0
    for ranked in lists:
        note = why_short(ranked, arguments.k, model.num_shown, LEFT_OUT, config)
        titles = model.titles(set(ranked.item_ids))
        if arguments.json:
            print(json_line("user_id", ranked, titles, note))
        else:
            print_list(ranked, titles, note, is_one_of_many=len(user_ids) > 1)
    return 0


def _ask(gateway: GatewayClient, arguments: argparse.Namespace) -> int:
    for ranked, titles, degraded in gateway.recommend(arguments.users, arguments.k):
        count = len(ranked.item_ids)
        note = "" if count == arguments.k else f"{count:,} of {arguments.k:,} asked for"
        if degraded:
            remark(f"the model did not answer for {printable(ranked.key)}: {degraded}")
        if arguments.json:
            print(json_line("user_id", ranked, titles, note))
        else:
            print_list(ranked, titles, note, is_one_of_many=len(arguments.users) > 1)
    return 0


def everybody(model: CurrentModel) -> list[str]:
    """The people that the model knows from events, then those of the users table that it does not."""
    known = model.ids("user")
    if model.config.data.users is None:
        return known
    from components.tables.raw import TableError
    from pipeline.store_tables import resolved
    from pipeline.table_rows import accepted_rows

    data = configuration.localised(resolved(model.config)).data
    try:
        return list(dict.fromkeys([*known, *(row["user_id"] for row in accepted_rows(data, "users"))]))
    except TableError as error:
        raise SettingsError(f"data.users: {error}") from error


def print_list(ranked: RankedList, titles: dict[str, str], note: str = "", is_one_of_many: bool = False) -> None:
    """A line an item, then what is to be said of the list."""
    if is_one_of_many:
        print(f"for {printable(ranked.key)}:")
    for line in text_lines(ranked, titles):
        print(line)
    if note:
        print(note)
    if ranked.fallback:
        print(f"nothing is known of {ranked.key!r}: this is what new people get")
