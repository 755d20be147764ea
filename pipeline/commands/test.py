"""`zhiyin test`: runs the test suite, or its quick part for the inner loop."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipeline.commands.arguments import Commands, add_command

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = [*(f"--cov={room}" for room in ("components", "trainer", "serving", "pipeline")), "--cov-report=term"]
QUICK = "not slow and not e2e and not browser and not gpu"
QUICK_PROCESSOR_S = (
    210  # three minutes of two cores, less what the workers take to import TensorFlow and find the tests
)
QUICK_LEAVES_OUT = (
    "left out: tests marked slow (trainings to the end, processes of their own, loads of whole served models), "
    "e2e (the line from tables to a server), browser, gpu, and the files that take most; ./zhiyin test runs them"
)
# Two workers share two cores: with a thread for each core in each worker, TensorFlow's threads would wait for one
# another.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}


def add_parser(commands: Commands) -> None:
    """`test [--quick | --record] [--coverage] [pytest's arguments]`."""
    command = add_command(
        commands, "test", "run the tests; further arguments go to pytest", "./zhiyin test --quick -k rounding", run
    )
    command.set_defaults(takes_further_arguments=True)
    part = command.add_mutually_exclusive_group()
    part.add_argument("--quick", action="store_true", help=f"what takes three minutes; {QUICK_LEAVES_OUT}")
    part.add_argument("--record", action="store_true", help="write down what each file takes, for --quick to choose by")
    command.add_argument("--coverage", action="store_true", help="measure which lines of the four rooms are run")


def run(arguments: argparse.Namespace) -> int:
    """Run pytest on two workers; the slowest files come first, so that no worker ends long before the other."""
    selection = ["--processor-seconds=20"]
    if arguments.quick:
        selection = ["-m", QUICK, f"--processor-budget={QUICK_PROCESSOR_S}"]
    elif arguments.record:
        selection.append("--record-processor-seconds")
    coverage = COVERAGE if arguments.coverage else []
    workers = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [sys.executable, "-m", "pytest", *workers, *selection, *coverage, *arguments.rest]
    code = subprocess.run(command, cwd=ROOT, check=False, env=environment(os.environ)).returncode
    if arguments.quick:
        print(QUICK_LEAVES_OUT)
    return code


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The tests' environment: one thread a worker, where nobody has asked for another number."""
    return {**ONE_THREAD, **given}
