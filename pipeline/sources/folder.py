"""A folder of data that is either complete or not there."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.summary import SourceError, Summary

STAMP = "source.json"


def write_once(out_dir: Path, identity: Mapping[str, Any], make: Callable[[Path], Summary]) -> Summary:
    """Let `make` fill the folder, unless it already holds the data of this identity.

    identity: JSON-able; equal identities give equal data. The folder is filled beside its place and moved there when
    it is complete.
    Raises SourceError if the folder holds anything but earlier data of ours.
    """
    stamp_path = out_dir / STAMP
    if stamp_path.is_file():
        stamp = json.loads(stamp_path.read_text(encoding="utf-8"))
        if stamp["identity"] == dict(identity):
            return Summary(**stamp["counts"], fresh=False)
    elif out_dir.exists() and any(out_dir.iterdir()):
        raise SourceError(
            f"{out_dir}: holds other files, expected an empty folder or one made by this command; name another folder"
        )
    partial_dir = out_dir.with_name(f"{out_dir.name}.partial")
    shutil.rmtree(partial_dir, ignore_errors=True)
    partial_dir.mkdir(parents=True)
    summary = make(partial_dir)
    counts = {name: value for name, value in dataclasses.asdict(summary).items() if name != "fresh"}
    text = json.dumps({"identity": dict(identity), "counts": counts}, indent=2)
    (partial_dir / STAMP).write_text(text, encoding="utf-8")
    shutil.rmtree(out_dir, ignore_errors=True)
    partial_dir.rename(out_dir)
    return summary


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]]) -> int:
    """Write a table in UTF-8; rows are mappings by column name, or values in the order of the columns. Returns the
    number of rows."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([row.get(column, "") for column in columns] if isinstance(row, Mapping) else row)
            count += 1
    return count
