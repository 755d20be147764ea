"""How fast a table of events becomes sequences, and in how much memory: TableGen and Interactions, beside an earlier
commit that went row by row, and pandas, which only reads the file.

Made events in MovieLens-20M's shape: ratings by users and of items whose numbers of events follow power laws, in the
order of time. Cost: some 2 minutes a million rows and format; `--before CHECKOUT` is a checkout of 2c89fe7, the last
commit that went row by row, of whose speed a share of the rows tells enough.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from benchmarks.goals import check_cases
from benchmarks.peak import peak_mb
from benchmarks.quality.bench import in_own_process, row_of

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"1M": 1_000_000, "10M": 10_000_000}
CASES = tuple(f"{size} {ending}" for size in SIZES for ending in ("csv", "parquet"))
ROW_BY_ROW = "row by row"
ROWS_BEFORE = 100_000
GOALS: list[dict[str, Any]] = [
    goal
    for case in CASES
    for goal in (
        {"case": case, "metric": "rows_per_cpu_second", "at_least": 10, "of": ROW_BY_ROW},
        {"case": case, "metric": "peak_mb", "at_most": 8000},
    )
]

EVENTS_PER_USER, EVENTS_PER_ITEM, MAX_ITEMS = 144, 740, 26_744  # as MovieLens-20M has them
FIRST_S, LAST_S = 789_652_009, 1_427_784_002  # its first and last rating
CHUNK = 1_000_000
ITEMS = "items.csv"


def run(data_dir: Path | None = None, cases: Sequence[str] = CASES, before: Path | None = None) -> list[dict[str, Any]]:
    """Rows of each case, "<number of events> <format>".

    data_dir: ignored; the events are made here, the same in every run. before: a checkout to be measured beside this.
    """
    check_cases(cases, CASES)
    rows = []
    for case in cases:
        size, ending = case.split()
        with tempfile.TemporaryDirectory(prefix="zhiyin-reading-") as folder:
            table = in_own_process(make, Path(folder, "all"), SIZES[size], ending)
            rows += _rows(case, "ours", SIZES[size], through_the_nodes(table, ROOT))
            rows += _rows(case, "pandas, the file alone", SIZES[size], in_own_process(read_by_pandas, table))
            if before:
                share = in_own_process(make, Path(folder, "share"), ROWS_BEFORE, ending)
                rows += _rows(case, ROW_BY_ROW, ROWS_BEFORE, through_the_nodes(share, before.resolve()))
    return rows


def _rows(case: str, contender: str, num_rows: int, costs: Mapping[str, float]) -> list[dict[str, Any]]:
    values = {
        "rows_per_second": num_rows / costs["seconds"],
        "rows_per_cpu_second": num_rows / costs["cpu_seconds"],
        **{name: value for name, value in costs.items() if name not in ("seconds", "cpu_seconds", "accepted")},
    }
    return [row_of(case, contender, metric, value, 1) for metric, value in values.items()]


def make(folder: Path, num_events: int, ending: str) -> Path:
    """Write a catalogue and a table of events, csv or parquet, and give the table's path."""
    folder.mkdir(parents=True)
    num_items = min(num_events // EVENTS_PER_ITEM + 1, MAX_ITEMS)
    Path(folder, ITEMS).write_text("item_id\n" + "".join(f"{item}\n" for item in range(num_items)), "utf-8")
    path = folder / f"events.{ending}"
    chunks = _chunks(num_events, num_items)
    first = next(chunks)
    if ending == "parquet":
        with pyarrow.parquet.ParquetWriter(path, first.schema) as parquet:
            for chunk in (first, *chunks):
                parquet.write_table(chunk)
        return path
    with path.open("wb") as lines:
        lines.write(",".join(first.column_names).encode() + b"\n")
        for chunk in (first, *chunks):
            texts = [column.cast(pa.string()).combine_chunks() for column in chunk.columns]
            joined = pc.binary_join_element_wise(*texts, ",")
            lines.write("\n".join(joined.to_pylist()).encode() + b"\n")
    return path


def _chunks(num_events: int, num_items: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    by_user = np.cumsum(rng.pareto(1.2, max(num_events // EVENTS_PER_USER, 1)) + 1)
    by_item = np.cumsum(1 / np.arange(1, num_items + 1) ** 0.9)
    for start in range(0, num_events, CHUNK):
        number = min(CHUNK, num_events - start)
        times = np.sort(rng.integers(0, (LAST_S - FIRST_S) * number // num_events + 1, number))
        yield pa.table(
            {
                "user_id": np.searchsorted(by_user, rng.random(number) * by_user[-1]),
                "item_id": np.searchsorted(by_item, rng.random(number) * by_item[-1]),
                "timestamp": times + FIRST_S + (LAST_S - FIRST_S) * start // num_events,
                "event": pa.array(["rating"] * number),
                "value": rng.integers(1, 11, number) / 2,
            }
        )


def through_the_nodes(table: Path, checkout: Path) -> dict[str, float]:
    """What TableGen and Interactions of a checkout cost on a table that `make` has written.

    Raises RuntimeError where they fail, or leave an event out.
    """
    script = Path(__file__).with_name("reading_nodes.py")
    command = [sys.executable, str(script), str(table), str(table.parent / ITEMS), str(table.parent / "made")]
    quiet = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    environment = {**os.environ, **quiet, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{table.name}: the nodes of {checkout} fail: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def read_by_pandas(table: Path) -> dict[str, float]:
    """What it costs to have the table as a frame of pandas."""
    import pandas as pd

    started, spent = time.monotonic(), time.process_time()
    frame = pd.read_csv(table) if table.suffix == ".csv" else pd.read_parquet(table)
    assert len(frame)
    costs = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - spent}
    return {**costs, "peak_mb": peak_mb()}
