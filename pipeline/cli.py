"""The command line. TensorFlow and TFX are imported by the commands that need them, never for --help."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from components.settings import SettingsError

DEMO_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a failed run, 2 for a fault in usage or configuration."""
    arguments, rest = parser().parse_known_args(argv)
    if rest and arguments.command not in ("serve", "test"):
        parser().error(f"unknown argument {rest[0]!r} of {arguments.command}; see ./zhiyin {arguments.command} --help")
    arguments.rest = rest
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return exit_code_of(lambda: importlib.import_module(f"pipeline.commands.{arguments.command}").run(arguments))


def exit_code_of(command: Callable[[], int]) -> int:
    """What a command returns, or 2 for a fault in usage or configuration and 1 for a failed run, each with its line on stderr."""
    try:
        return command()
    except SettingsError as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except (RuntimeError, OSError) as error:
        return _say(error, 1)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="./zhiyin",
        description="Recommends audio and video by understanding the content: media and events in, a served model out.",
        epilog="Start with: ./zhiyin demo. Benchmarks: ./zhiyin bench --help",
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(
        commands, "demo", "make a small world with real media files, train on it, recommend", "./zhiyin demo"
    )
    demo.add_argument("--seed", type=int, default=0, help="of the world (default 0)")

    run = _command(
        commands, "run", "run the pipeline of a configuration", "./zhiyin run --config configs/movielens_100k.yaml"
    )
    _add_config(run)

    tune = _command(
        commands,
        "tune",
        "search better settings of the retrieval model",
        "./zhiyin tune --config configs/movielens_100k.yaml --trials 30 --seconds 1200",
    )
    _add_config(tune)
    tune.add_argument("--trials", type=int, help="trainings at most (default: tuning.trials, 20)")
    tune.add_argument("--seconds", type=float, help="of all trials together (default: tuning.seconds, 1800)")

    data = _command(
        commands,
        "data",
        "write the three tables of a known source",
        "./zhiyin data movielens-100k --source recbole-1.2.1-py3-none-any.whl",
    )
    data.add_argument("name", choices=["demo", "movielens-100k", "lastfm-2k"])
    data.add_argument("--source", type=Path, help="folder, archive or wheel that holds the raw data")
    data.add_argument(
        "--fetch", action="store_true", help="get the raw data from the package index instead of --source"
    )
    data.add_argument("--output", type=Path, help="folder to write (default data/NAME)")
    data.add_argument("--seed", type=int, default=0, help="of the demo world (default 0)")

    serve = _command(
        commands,
        "serve",
        "answer over TF Serving's gRPC and REST; takes TF Serving's own flags too",
        "./zhiyin serve --port 8500 --rest_api_port 8501",
    )
    _add_config(serve, DEMO_CONFIG)
    serve.add_argument(
        "--backend",
        choices=["python", "tf-serving"],
        default="python",
        help="tf-serving starts tensorflow_model_server",
    )

    recommend = _command(
        commands, "recommend", "recommend to one person, or to all into a file", "./zhiyin recommend --user u0001 --k 5"
    )
    _add_config(recommend, DEMO_CONFIG)
    whom = recommend.add_mutually_exclusive_group(required=True)
    whom.add_argument("--user", metavar="ID")
    whom.add_argument("--all-users", action="store_true", help="everybody in the events; needs --output")
    recommend.add_argument("--k", type=int, default=10, help="items a person (default 10)")
    recommend.add_argument("--output", type=Path, help="CSV or Parquet: user_id, rank, item_id, score")

    similar = _command(
        commands, "similar", "items like one item, by serving.similar_by", "./zhiyin similar --item m0007 --k 5"
    )
    _add_config(similar, DEMO_CONFIG)
    similar.add_argument("--item", metavar="ID", required=True)
    similar.add_argument("--k", type=int, default=10, help="items (default 10)")

    explain = _command(
        commands,
        "explain",
        "why an item, or why not: what each part adds to its scores",
        "./zhiyin explain --user u0007 --item i0042",
    )
    _add_config(explain, DEMO_CONFIG)
    explain.add_argument("--user", metavar="ID", required=True)
    explain.add_argument("--item", metavar="ID", required=True)
    explain.add_argument("--top", type=int, default=5, help="parts of each kind (default 5)")

    adding = _command(
        commands,
        "add",
        "show new items at once, before the next run",
        "./zhiyin add --config configs/demo.yaml --catalogue new.csv --server localhost:8500",
    )
    _add_config(adding, DEMO_CONFIG)
    adding.add_argument(
        "--catalogue", type=Path, required=True, help="a table with the columns of the catalogue; media as there"
    )
    _add_servers(adding)

    withdrawing = _command(
        commands,
        "withdraw",
        "show items no more, at once and for good",
        "./zhiyin withdraw --config configs/demo.yaml --item i0042 --server localhost:8500",
    )
    _add_config(withdrawing, DEMO_CONFIG)
    withdrawing.add_argument("--item", metavar="ID", action="append", required=True, help="may be given several times")
    withdrawing.add_argument("--restore", action="store_true", help="show them again")
    _add_servers(withdrawing)

    refresh = _command(
        commands,
        "refresh",
        "new catalogue and events, same model: features, vectors, index, push; no training",
        "./zhiyin refresh --config configs/movielens_100k.yaml",
    )
    _add_config(refresh)

    tags = _command(commands, "tags", "tags that an item's content lets expect", "./zhiyin tags --item i0007")
    _add_config(tags, DEMO_CONFIG)
    tags.add_argument("--item", metavar="ID", required=True)
    tags.add_argument("--k", type=int, default=10, help="tags (default 10)")

    compiling = _command(
        commands,
        "compile",
        "write the pipeline for Kubeflow or Vertex",
        "./zhiyin compile --target vertex --config my.yaml --output job.json",
    )
    _add_config(compiling)
    compiling.add_argument("--target", choices=["kubeflow", "vertex"], required=True)
    compiling.add_argument(
        "--output", type=Path, default=Path("pipeline.json"), help=".json or .yaml (default pipeline.json)"
    )

    _command(commands, "check", "lint, types, import contracts", "./zhiyin check")
    _command(commands, "test", "run the tests; further arguments go to pytest", "./zhiyin test -m 'not e2e'")
    return top


def _command(commands: argparse._SubParsersAction, name: str, about: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        allow_abbrev=False,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=f"Example: {example}",
    )


def _add_config(command: argparse.ArgumentParser, default: Path | None = None) -> None:
    command.add_argument(
        "--config",
        type=Path,
        default=default,
        required=default is None,
        help="YAML" + (" (default: the demo's)" if default else ""),
    )


def _add_servers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--server",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="gRPC of a running server to tell, may be given several times; one that starts later knows by itself",
    )


def _say(message: object, code: int) -> int:
    print(f"zhiyin: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
