"""What the parsers of several commands have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.settings import SettingsError
from pipeline.config import expanded
from serving.config import MAX_K

if TYPE_CHECKING:
    from pipeline.gateway_client import GatewayClient

DEMO_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
ID_FLAGS = ("--user", "--item")
KEY_VARIABLE = "ZHIYIN_API_KEY"
_ID_MARK = "\x1f"  # a control character, which no id of a table holds

Commands = Any  # what argparse's `add_subparsers` returns; its class is private
Run = Callable[[argparse.Namespace], int]  # a command: parsed arguments -> exit code


def add_command(commands: Commands, name: str, about: str, example: str, run: Run) -> argparse.ArgumentParser:
    """Add a command to the command line.

    about: what it does, a line of the help, in lower case. example: a command line that works.
    """
    command = commands.add_parser(
        name,
        allow_abbrev=False,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=f"Example: {example}",
    )
    command.set_defaults(run=run, takes_further_arguments=False)
    return command


def add_config(command: argparse.ArgumentParser, default: Path | None = None) -> None:
    """`--config FILE`, required where there is no default."""
    command.add_argument(
        "--config",
        type=user_path,
        default=default,
        required=default is None,
        help="YAML" + (" (default: the demo's)" if default else ""),
    )


def add_servers(command: argparse.ArgumentParser) -> None:
    """`--server HOST:PORT`, of running model servers."""
    command.add_argument(
        "--server",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="gRPC of a running server to tell, may be given several times; one that starts later knows by itself",
    )


def add_gateway(command: argparse.ArgumentParser) -> None:
    """`--gateway URL [--api-key-file FILE]`: the online service in place of the model in this process."""
    command.add_argument(
        "--gateway", metavar="URL", help="ask the running service, such as http://127.0.0.1:8080 (`zhiyin up`)"
    )
    command.add_argument(
        "--api-key-file",
        type=user_path,
        metavar="FILE",
        help=f"holds the service's key, where it needs one (or the environment variable {KEY_VARIABLE})",
    )


def gateway_of(arguments: argparse.Namespace, local_flags: Mapping[str, object]) -> GatewayClient | None:
    """The gateway that is asked; None where the command works in this process.

    local_flags: flags that mean something only there, with what they were given.
    Raises SettingsError where flags of both were given, or the key's file cannot be read.
    """
    if arguments.gateway is None:
        if arguments.api_key_file is not None:
            raise SettingsError("--api-key-file: is for a gateway, and --gateway is not there")
        return None
    for flag, given in local_flags.items():
        if given:
            raise SettingsError(f"{flag}: means nothing with --gateway, which asks the running service")
    from pipeline.gateway_client import GatewayClient

    return GatewayClient(arguments.gateway, _api_key(arguments.api_key_file))


def _api_key(file: Path | None) -> str:
    """From the file, else from the environment; a command line can be read by everybody on the machine."""
    try:
        text = os.environ.get(KEY_VARIABLE, "") if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--api-key-file: {error}") from error
    key = text.strip()
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"--api-key-file or {KEY_VARIABLE}: expected one key, zy_..., on one line")
    return key


def add_ids(command: Any, flag: str, required: bool = False) -> None:
    """`--user ID ...` or `--item ID ...`: a list of ids, in `users` or `items`; None where the flag is not there.

    command: a parser or one of its groups.
    """
    command.add_argument(
        flag,
        dest=f"{flag.removeprefix('--')}s",
        metavar="ID",
        action="append",
        type=lambda word: word.removeprefix(_ID_MARK),
        required=required,
        help="one or more; an id may begin with a dash",
    )


def with_marked_ids(words: Sequence[str]) -> list[str]:
    """Words of a command line, with `--item A B` as `--item=A --item=B` and a mark before each id.

    argparse would take an id such as -x, --help or -- for a flag. The word after the flag is an id whatever it is;
    those that follow are ids up to the next that begins with two dashes.
    """
    marked: list[str] = []
    flag, is_first = "", False
    for word in words:
        name, equals, value = word.partition("=")
        if flag and (is_first or not word.startswith("--")):
            marked.append(f"{flag}={_ID_MARK}{word}")
            is_first = False
        elif word in ID_FLAGS:
            flag, is_first = word, True
        else:
            marked.append(f"{name}={_ID_MARK}{value}" if equals and name in ID_FLAGS else word)
            flag = ""
    return [*marked, flag] if is_first else marked  # a flag without an id, which argparse refuses


def add_top_k(command: argparse.ArgumentParser, what: str) -> None:
    """`--k K`, how long a list is. what: the things in it, for the help."""
    command.add_argument("--k", type=int, default=10, help=f"{what} (default 10)")


def add_json(command: argparse.ArgumentParser) -> None:
    """`--json`, answers for programs."""
    command.add_argument("--json", action="store_true", help="a JSON object a line instead of text")


def check_top_k(arguments: argparse.Namespace) -> None:
    """Raises SettingsError where `--k` asks for nothing, or for more than the model lists."""
    if not 1 <= arguments.k <= MAX_K:
        raise SettingsError(f"--k: got {arguments.k}, expected 1 to {MAX_K:,}")


def user_path(text: str) -> Path:
    """A path as it was typed; a leading ~ is the home folder, which a shell leaves alone in --flag=~/file."""
    return Path(expanded(text))
