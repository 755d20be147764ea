"""Writes everything that a run rejected into one readable table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.local_runner import Stage

COLUMNS = ("stage", "source", "line", "item_id", "reason", "detail")
NAME = "rejects.csv"


def write_rejects(stages: Iterable[Stage], folder: Path) -> int:
    """Write `rejects.csv` of the stages that have run, by stage, file and line; returns the number of its rows.

    The file of an earlier run goes where nothing was rejected.
    """
    path = folder / NAME
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for stage in stages:
            for reject in _of_stage(stage) if "rejects" in stage.outputs else ():
                writer.writerow(reject)
                count += 1
    if count:
        partial.replace(path)
    else:
        partial.unlink()
        path.unlink(missing_ok=True)
    return count


def rejects_line(folder: Path) -> str:
    """Where the rejects of the last run are, "" where there are none."""
    path = folder / NAME
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        count = sum(1 for _ in csv.reader(file)) - 1
    return f"{count:,} rejects, each with its place and reason: {path}"


def _of_stage(stage: Stage) -> Iterator[dict[str, Any]]:
    with (stage.uri("rejects") / "rejects.jsonl").open(encoding="utf-8") as lines:
        in_order = sorted(lines, key=_place)  # as texts: as dicts they would take several times the memory
    yield from map(json.loads, in_order)


def _place(line: str) -> tuple[str, int, str]:
    reject = json.loads(line)
    return reject["source"], reject["line"] or 0, reject["item_id"] or ""
