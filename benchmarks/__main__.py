"""`./zhiyin bench`: one benchmark with its peers, its rows as JSON, and the table of all of them.

A benchmark is a module of `benchmarks/` with `run(data_dir) -> rows` and `GOALS`; with cases that can be run alone,
`run(data_dir, cases)`, with a commit to compare with, `run(data_dir, cases, before)`, and with a picture,
`draw(rows, path)`. benchmarks/goals.py says what a row and a goal are.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page
from benchmarks.stored import commit, kept
from components.settings import SettingsError
from pipeline.cli import exit_code_of
from pipeline.console import quiet_libraries

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
RESULTS = BENCHMARKS / "results"
# Options that some benchmarks take -> what is said of one that does not.
WANTED = {"seconds": "sends no load", "before": "compares no commits"}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run it; exit codes as those of every command."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    arguments = parser().parse_args(argv)
    return exit_code_of(lambda: run(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line of `./zhiyin bench`."""
    made = argparse.ArgumentParser(
        prog="./zhiyin bench",
        description="Run a benchmark with its peers, or render the table of all that were run.",
        epilog="Example: ./zhiyin bench media --data-dir music/",
        allow_abbrev=False,
    )
    made.add_argument("name", nargs="?", help=f"one of {', '.join(names())}")
    made.add_argument("--data-dir", type=Path, help="folder with the data that the benchmark reads")
    made.add_argument("--case", nargs="+", default=[], help="these cases alone; the stored rows of others stay")
    made.add_argument("--seconds", type=float, help="of load, of benchmarks that send any (default: their own)")
    made.add_argument(
        "--before", type=Path, help="speed, reading: a checkout of an earlier commit, to be measured beside this one"
    )
    made.add_argument("--table", action="store_true", help="render benchmarks/README.md from the stored results")
    return made


def run(arguments: argparse.Namespace) -> int:
    """Run the named benchmark and store its result, or render the table."""
    quiet_libraries()
    if arguments.table:
        print(f"{page.write(BENCHMARKS)} benchmarks in benchmarks/README.md")
        return 0
    if arguments.name not in names():
        raise SettingsError(f"benchmark: got {arguments.name!r}, expected one of {', '.join(names())}")
    started = time.monotonic()
    module, path = importlib.import_module(f"benchmarks.{arguments.name}"), RESULTS / f"{arguments.name}.json"
    options = {name: getattr(arguments, name) for name in WANTED if getattr(arguments, name) is not None}
    taken = inspect.signature(module.run).parameters
    for name in set(options) - set(taken):
        raise SettingsError(f"--{name}: {arguments.name} {WANTED[name]}")
    if arguments.case and "cases" not in taken:
        raise SettingsError(f"--case: {arguments.name} has no cases that can be run alone")
    measured_at = commit()
    if arguments.case:
        rows = module.run(arguments.data_dir, arguments.case, **options)
        if path.is_file():
            anew = {*arguments.case, *(row["case"] for row in rows)}
            rows = kept(json.loads(path.read_text(encoding="utf-8")), anew) + rows
    else:
        rows = module.run(arguments.data_dir, **options)
    result = {
        "benchmark": arguments.name,
        "command": _command(arguments),
        "commit": measured_at,
        "cores": os.cpu_count(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if hasattr(module, "draw"):
        module.draw(rows, path.with_suffix(".svg"))
    print(page.section(arguments.name, result, RESULTS))
    print(f"{len(rows)} rows in {path.relative_to(ROOT)} after {time.monotonic() - started:.0f} s")
    return 0


def names() -> list[str]:
    """The benchmarks there are: modules and packages of `benchmarks/` that say how they are run."""
    found = [path for path in (*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("*/__init__.py")) if path != Path(__file__)]
    runnable = [path for path in found if "\ndef run(" in path.read_text(encoding="utf-8")]
    return sorted(path.parent.name if path.name == "__init__.py" else path.stem for path in runnable)


def _command(arguments: argparse.Namespace) -> str:
    flags = {"--data-dir DIR": arguments.data_dir, "--before CHECKOUT": arguments.before}
    return " ".join([f"./zhiyin bench {arguments.name}", *(flag for flag, value in flags.items() if value)])


if __name__ == "__main__":
    sys.exit(main())
