"""What a run says in the terminal: a line a stage with counts and seconds, tables, the last line."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import absl.logging

from components.account import account_line, remarks

if TYPE_CHECKING:
    from pipeline.local_runner import Stage


MOST_REMARKS = 8  # lines below a stage's own


class StageLines:
    """Prints each stage as it ends, and on a terminal those that run."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._running: dict[str, None] = {}  # names in the order in which they began

    def start(self, name: str, number: int, of: int) -> None:
        """The stage that begins now; the number of the next one that ends."""
        self._running[name] = None
        self._show_running(number, of)

    def done(self, stage: Stage) -> None:
        """The stage that has ended, with what it did."""
        self._running.pop(stage.name, None)
        if self._live:
            print("\033[2K", end="\r", file=sys.stderr)
        how = "cached" if stage.cached else f"{stage.seconds:.1f} s"
        account, *remarks = _account(stage)
        print(f"  [{stage.number:2d}/{stage.of}] {stage.name:20s} {how:>8s}  {account}".rstrip(), flush=True)
        for remark in remarks[:MOST_REMARKS]:
            print(f"          {remark}", flush=True)
        if len(remarks) > MOST_REMARKS:
            print(f"          and {len(remarks) - MOST_REMARKS} more in {stage.uri('rejects') / 'summary.json'}")
        if self._running:
            self._show_running(stage.number + 1, stage.of)

    def _show_running(self, number: int, of: int) -> None:
        if self._live:
            names = ", ".join(self._running)
            print(f"\033[2K  [{number:2d}/{of}] {names} …", end="\r", file=sys.stderr, flush=True)


def remark(text: str) -> None:
    """A line that is no result: what the user should know beside it."""
    print(text, file=sys.stderr, flush=True)


def _account(stage: Stage) -> list[str]:
    """Counts of one stage in a line, from the small reports that our nodes leave, and lines of remarks."""
    for output in ("rejects", "index", "evaluation", "model_run"):
        if output not in stage.outputs:
            continue
        folder = stage.uri(output)
        if (summary := _read(folder / "summary.json")) is not None:
            return [account_line(summary), *remarks(summary)]
        if (report := _read(folder / "report.json")) is not None:
            return [report.get("headline", "")]
        if (folder / "eval_config.json").is_file():  # TFMA's
            from pipeline.ranking_evaluation import verdict

            return [verdict(str(folder))]
    return [""]


def _read(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def quiet_libraries() -> None:
    """Keep the libraries' notes of the ordinary out of the terminal; errors stay.

    It works for libraries that are imported afterwards.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.WARNING)
    absl.logging.set_verbosity(absl.logging.FATAL)  # a failed node is told once, by us
    for name in ("apache_beam", "tensorflow", "tensorflow_transform", "root", "h5py", "google", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    atexit.register(_quiet_teardown)


def _quiet_teardown() -> None:
    sys.unraisablehook = lambda unraisable: None  # TensorFlow's functions outlive the modules that their __del__ needs


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table; the first column is text and flush left, the others are numbers and flush right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def render(line: list[str]) -> str:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        return "  " + "  ".join(cells).rstrip()

    return "\n".join([render(lines[0]), "  " + "  ".join("-" * width for width in widths), *map(render, lines[1:])])
