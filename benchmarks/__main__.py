"""`./zhiyin bench`: one benchmark with its peers, its rows as JSON, and the table of all of them.

A benchmark is a module of `benchmarks/` with `run(data_dir) -> rows` and `GOALS`; with cases that can be run alone, `run(data_dir, cases)`,
and with a picture, `draw(rows, path)`. A row is {"case", "contender", "metric", "value", "low", "high", "runs"}; a goal {"case", "metric",
"at_least" or "at_most": number, "of": contender whose value the number multiplies, where it is a ratio}.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.settings import SettingsError
from pipeline.cli import exit_code_of
from pipeline.console import quiet_libraries

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
RESULTS = BENCHMARKS / "results"
HEADER = (
    "# Benchmarks",
    "",
    "Written by `./zhiyin bench --table` from `results/`. Peers run beside ours, in the same run.",
    "",
)


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
    made.add_argument("--table", action="store_true", help="render benchmarks/README.md from the stored results")
    return made


def run(arguments: argparse.Namespace) -> int:
    """Run the named benchmark and store its result, or render the table."""
    quiet_libraries()
    if arguments.table:
        (BENCHMARKS / "README.md").write_text(render(), encoding="utf-8")
        print(f"{len(list(RESULTS.glob('*.json')))} results in benchmarks/README.md")
        return 0
    if arguments.name not in names():
        raise SettingsError(f"benchmark: got {arguments.name!r}, expected one of {', '.join(names())}")
    started = time.monotonic()
    module, path = importlib.import_module(f"benchmarks.{arguments.name}"), RESULTS / f"{arguments.name}.json"
    if arguments.case:
        rows = module.run(arguments.data_dir, arguments.case)
        stored = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        rows = [row for row in stored if row["case"] not in arguments.case] + rows
    else:
        rows = module.run(arguments.data_dir)
    result = {
        "benchmark": arguments.name,
        "command": _command(arguments),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if hasattr(module, "draw"):
        module.draw(rows, path.with_suffix(".svg"))
    print(_section(arguments.name, result))
    print(f"{len(rows)} rows in {path.relative_to(ROOT)} after {time.monotonic() - started:.0f} s")
    return 0


def names() -> list[str]:
    """The benchmarks there are: modules and packages of `benchmarks/` that say how they are run."""
    found = [path for path in (*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("*/__init__.py")) if path != Path(__file__)]
    runnable = [path for path in found if "\ndef run(" in path.read_text(encoding="utf-8")]
    return sorted(path.parent.name if path.name == "__init__.py" else path.stem for path in runnable)


def render() -> str:
    """All stored results as one page, goals beside values, misses included, pictures where there are some."""
    sections = [
        _section(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(RESULTS.glob("*.json"))
    ]
    return "\n".join([*HEADER, *sections])


def _section(name: str, result: dict[str, Any]) -> str:
    lines = [f"## {name}", "", f"`{result['command']}` at {result['commit']}, {result['cores']} cores", ""]
    if (RESULTS / f"{name}.svg").is_file():
        lines += [f"![{name}](results/{name}.svg)", ""]
    lines += [
        "| case | contender | metric | value | 95 % | runs | goal |",
        "| --- | --- | --- | ---: | --- | ---: | --- |",
    ]
    goals = importlib.import_module(f"benchmarks.{name}").GOALS
    for row in result["rows"]:
        interval = f"{_number(row['low'])} – {_number(row['high'])}" if row.get("low") is not None else ""
        goal = "; ".join(_judged(goal, row, result["rows"]) for goal in goals if _is_for(goal, row))
        cells = (
            row["case"],
            row["contender"],
            row["metric"],
            _number(row["value"]),
            interval,
            str(row.get("runs", "")),
            goal,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _is_for(goal: dict[str, Any], row: dict[str, Any]) -> bool:
    return row["contender"] == "ours" and (row["case"], row["metric"]) == (goal["case"], goal["metric"])


def _judged(goal: dict[str, Any], row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    sign, bound = ("≥", goal["at_least"]) if "at_least" in goal else ("≤", goal["at_most"])
    text = f"{sign} {_number(bound)}"
    if "of" in goal:
        peers = [
            peer["value"]
            for peer in rows
            if peer["contender"].startswith(goal["of"])
            and (peer["case"], peer["metric"]) == (row["case"], row["metric"])
        ]
        if not peers:
            return f"{text} × {goal['of']}: not run"
        if peers[0] is None or row["value"] is None:  # what one of them did not reach at all
            return f"{text} × {goal['of']}: {'**missed**' if row['value'] is None else 'met, by it not reached'}"
        text, bound = f"{text} × {goal['of']}", bound * peers[0]
    met = row["value"] >= bound if sign == "≥" else row["value"] <= bound
    return f"{text}: {'met' if met else '**missed**'}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _command(arguments: argparse.Namespace) -> str:
    return f"./zhiyin bench {arguments.name}" + (" --data-dir DIR" if arguments.data_dir else "")


def _commit() -> str:
    return (
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
        or "unknown"
    )


if __name__ == "__main__":
    sys.exit(main())
