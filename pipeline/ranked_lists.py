"""Ranked lists as people and programs read them: lines on a terminal, JSON lines, a CSV or Parquet file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from components.settings import SettingsError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.local_model import RankedList

ENDINGS = (".csv", ".parquet")
ROWS_AT_ONCE = 100_000  # of a table that is written
_LATEST_S = 253_402_300_799  # the end of the year 9999


def text_lines(ranked: RankedList, titles: Mapping[str, str]) -> Iterator[str]:
    """A line an item: rank, score, id, domain and title."""
    for rank, (item_id, score) in enumerate(zip(ranked.item_ids, ranked.scores), start=1):
        yield f"  {rank:3d}  {score:8.4f}  {printable(item_id):12s}  {printable(titles[item_id])}"


def json_line(key: str, ranked: RankedList, titles: Mapping[str, str], note: str) -> str:
    """One JSON object: `key` (user_id or item_id), `items` (rank, item_id, score, title), `fallback`; where there are
    such, `by` and `note`.
    """
    items = [
        {"rank": rank, "item_id": item_id, "score": score, "title": titles[item_id]}
        for rank, (item_id, score) in enumerate(zip(ranked.item_ids, ranked.scores), start=1)
    ]
    found = {key: ranked.key, "items": items, "fallback": ranked.fallback}
    others = {"by": ranked.by, "note": note}
    return json.dumps(found | {name: value for name, value in others.items() if value}, ensure_ascii=False)


def printable(text: str) -> str:
    """Text of a table for a terminal, which would obey its control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def why_short(ranked: RankedList, k: int, num_shown: int, left_out: Sequence[str], config: Config) -> str:
    """Why a list is shorter than was asked for, in a line; nothing where it is not.

    num_shown: how many items can be shown at all. left_out: which of them this list cannot have, two kinds or more,
    beside those that the configured cap of a creator leaves out.
    """
    count = len(ranked.item_ids)
    if count >= k:
        return ""
    missing, cap = num_shown - count, config.serving.defaults.max_per_creator
    *others, last = [
        *left_out,
        *([f"more than {cap:,} of a creator (serving.defaults.max_per_creator)"] if cap else []),
    ]
    rest = f", and {missing:,} of those are {', '.join(others)}, or {last}" if missing > 0 else ""
    return f"{count:,} of {k:,} asked for: {num_shown:,} items can be shown{rest}"


def write_table(lists: Iterable[RankedList], output: Path, total: int) -> tuple[int, int]:
    """Write user_id, rank, item_id, score to CSV or Parquet, whole or not at all.

    total: how many lists there are, for the progress bar. Returns the number of rows and the length of the shortest
    list.
    """
    from tqdm import tqdm

    num_rows, lengths = 0, set[int]()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    try:
        with (_parquet_writer if output.suffix == ".parquet" else _csv_writer)(partial) as write:
            for block in _blocks(tqdm(lists, total=total, unit="user", disable=None, leave=False)):
                write(block)
                num_rows += sum(len(ranked.item_ids) for ranked in block)
                lengths.update(len(ranked.item_ids) for ranked in block)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return num_rows, min(lengths, default=0)


def _blocks(lists: Iterable[RankedList]) -> Iterator[list[RankedList]]:
    """Lists together, as many as reach ROWS_AT_ONCE rows."""
    block, num_rows = [], 0
    for ranked in lists:
        block.append(ranked)
        num_rows += len(ranked.item_ids)
        if num_rows >= ROWS_AT_ONCE:
            yield block
            block, num_rows = [], 0
    if block:
        yield block


@contextmanager
def _csv_writer(path: Path) -> Iterator[Callable[[list[RankedList]], None]]:
    import pandas as pd

    kinds = {"rank": "int32", "score": "float32"}
    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(_columns([])).to_csv(file, index=False)
        yield lambda block: pd.DataFrame(_columns(block)).astype(kinds).to_csv(file, index=False, header=False)


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[list[RankedList]], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"user_id": pa.string(), "rank": pa.int32(), "item_id": pa.string(), "score": pa.float32()}
    schema = pa.schema(list(kinds.items()))
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda block: writer.write_table(pa.table(_columns(block), schema))


def _columns(block: list[RankedList]) -> dict[str, list[str] | list[int] | list[float]]:
    return {
        "user_id": [ranked.key for ranked in block for _ in ranked.item_ids],
        "rank": [rank for ranked in block for rank in range(1, len(ranked.item_ids) + 1)],
        "item_id": [item_id for ranked in block for item_id in ranked.item_ids],
        "score": [score for ranked in block for score in ranked.scores],
    }


def check_output(output: Path | None) -> None:
    """Raises SettingsError where a file of this ending cannot be written."""
    if output is not None and output.suffix not in ENDINGS:
        raise SettingsError(f"--output {output}: expected one of the endings {', '.join(ENDINGS)}")


def moment(text: str) -> int:
    """A point in time as seconds since 1970.

    text: such seconds, or a date or time in ISO 8601; UTC where it names no zone.
    Raises SettingsError where it is neither, or not from 1970 to 9999.
    """
    try:
        seconds = int(text) if text.isascii() and text.isdigit() else _iso_seconds(text)
    except ValueError as error:
        raise SettingsError(
            f"--at: got {text!r}, expected 2024-05-31, 2024-05-31T18:00:00Z or seconds since 1970"
        ) from error
    if not 1 <= seconds <= _LATEST_S:
        raise SettingsError(f"--at: got {text!r}, expected a time from 1970 to 9999")
    return seconds


def _iso_seconds(text: str) -> int:
    found = datetime.fromisoformat(text.strip().removesuffix("Z") + "+00:00" * text.strip().endswith("Z"))
    return int((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp())
