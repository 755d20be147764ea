"""The command line: one parser, to which each module of `pipeline.commands` adds its own command.

TensorFlow and TFX are imported by the commands that need them, when they run, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from components.settings import SettingsError
from pipeline.commands import (
    add,
    check,
    compile,
    data,
    demo,
    explain,
    keys,
    loop,
    models,
    purge,
    recommend,
    refresh,
    report,
    run,
    runs,
    serve,
    similar,
    skew,
    store,
    stream,
    tags,
    test,
    tune,
    up,
    withdraw,
)
from pipeline.commands.arguments import with_marked_ids
from pipeline.console import quiet_libraries

COMMANDS = (  # in the order of --help
    demo,
    run,
    tune,
    report,
    runs,
    data,
    models,
    up,
    loop,
    skew,
    keys,
    store,
    stream,
    purge,
    serve,
    recommend,
    similar,
    explain,
    add,
    withdraw,
    refresh,
    tags,
    compile,
    check,
    test,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a failed run, 2 for a fault in usage or configuration."""
    print_any_character()
    made = parser()
    arguments, rest = made.parse_known_args(with_marked_ids(sys.argv[1:] if argv is None else argv))
    if rest and not arguments.takes_further_arguments:
        made.error(f"unknown argument {rest[0]!r} of {arguments.command}; see ./zhiyin {arguments.command} --help")
    arguments.rest = rest
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    quiet_libraries()
    return exit_code_of(lambda: arguments.run(arguments))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="./zhiyin",
        description="Recommends audio and video by understanding the content: media and events in, a served model out.",
        epilog="Start with: ./zhiyin demo. Benchmarks: ./zhiyin bench --help",
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def exit_code_of(command: Callable[[], int]) -> int:
    """What a command returns, or 2 for a fault in usage or configuration and 1 for a failed run.

    Each of these faults is a line on stderr.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except SettingsError as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except BrokenPipeError:  # who read our output has seen enough: `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return 128 + signal.SIGPIPE
    except (RuntimeError, OSError) as error:
        return _say(error, 1)


def print_any_character() -> None:
    """Print characters that a terminal's encoding lacks as escapes, where Python would raise UnicodeEncodeError."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def _say(message: object, code: int) -> int:
    print(f"zhiyin: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
