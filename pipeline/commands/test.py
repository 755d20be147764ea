"""`zhiyin test`: the test suite with coverage of the four rooms."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from pipeline.commands.arguments import Commands, add_command

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = [f"--cov={room}" for room in ("components", "trainer", "serving", "pipeline")]


def add_parser(commands: Commands) -> None:
    """`test [pytest's arguments]`."""
    command = add_command(
        commands, "test", "run the tests; further arguments go to pytest", "./zhiyin test -m 'not e2e'", run
    )
    command.set_defaults(takes_further_arguments=True)


def run(arguments: argparse.Namespace) -> int:
    """Run pytest on two workers; what follows `test` on the command line goes to pytest."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        *COVERAGE,
        "--cov-report=term",
        *arguments.rest,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode
