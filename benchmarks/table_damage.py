"""Generates well-formed tables in every format and damages them at random places."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("item_id", "title", "tags", "duration_s")
SEPARATORS = {"csv": ",", "tsv": "\t", "txt": ";", "dat": "::"}
FORMATS = (*SEPARATORS, "jsonl", "json", "parquet")
_WORDS = (
    "a",
    "Öl",
    "two words",
    "x,y",
    'say "hi"',
    "it's",
    "one\ntwo",
    "tab\there",
    "NULL",
    "[1]",
    "",
    "日本",
    "1;2",
    "a::b",
    "-",
)
_INSERTED = (
    '"',
    '""',
    ",",
    "\n",
    "\t",
    ";",
    "\0",
    "\r",
    "\r\n",
    " ",
    "\ufeff",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "é",
    "9" * 400,
)


class DamagedTable(NamedTuple):
    """A file's name and content, the settings that it was written for, and the lines that were whole rows of it."""

    name: str
    content: bytes
    settings: dict[str, Any]
    rows: frozenset[str]


def make(rng: random.Random) -> DamagedTable:
    """A table in some format, plain or gzipped, with no to four kinds of damage."""
    kind = rng.choice(FORMATS)
    rows = [_row(rng, number) for number in range(rng.randrange(1, 12))]
    lines: frozenset[str] = frozenset()
    if kind == "parquet":
        content = _parquet(rng, rows)
    else:
        text = _text(rng, kind, rows)
        lines = frozenset(text.splitlines()[1:] if kind in SEPARATORS else ())
        content = text.encode()
        for _ in range(rng.randrange(5)):
            content = rng.choice(DAMAGES)(content, rng)
    name = f"table.{kind}"
    if rng.random() < 0.2:
        name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        if rng.random() < 0.2:
            content = content[: rng.randrange(len(content))]
    return DamagedTable(name, content, {"separator": SEPARATORS.get(kind, ",")}, lines)


def _row(rng: random.Random, number: int) -> dict[str, Any]:
    def words(count: int) -> str:
        return "".join(rng.choice(_WORDS) for _ in range(rng.randrange(count))).strip()

    return {
        "item_id": rng.choice((f"id{number}", f"{number:03}", "id0", "1e5")),
        "title": words(4),
        "tags": rng.choice(("", "x|y", words(2), '["a", "b"]', "[a, b]")),
        "duration_s": rng.choice(("", "1.5", "-1", "nan", "1e400", "three", "7")),
    }


def _text(rng: random.Random, kind: str, rows: list[dict[str, Any]]) -> str:
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) + "\n" for row in rows)
    if kind == "json":
        return json.dumps(rows, indent=rng.choice((None, 1)))
    end = rng.choice(("\n", "\r\n"))
    if kind == "dat" or (kind == "tsv" and rng.random() < 0.5):
        cells = [COLUMNS, *([row[name].replace("\n", " ").replace("\t", " ") for name in COLUMNS] for row in rows)]
        return "".join(SEPARATORS[kind].join(row) + end for row in cells)
    buffer = io.StringIO()
    dialect = rng.choice((csv.excel, csv.unix_dialect))  # quotes where they are needed, and everywhere
    writer = csv.DictWriter(buffer, COLUMNS, dialect=dialect, delimiter=SEPARATORS[kind], lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _parquet(rng: random.Random, rows: list[dict[str, Any]]) -> bytes:
    titles = [rng.choice((row["title"].encode(), b"\xff\xfe", None)) for row in rows]
    raw = pa.array(titles, pa.binary())
    lengths = [rng.choice((None, 1.5, float("nan"), float("inf"), -1.0)) for _ in rows]
    times = pa.array([rng.choice((None, 0, 10**15, -(2**62), 1_500_000_000_000_000)) for _ in rows], pa.int64())
    table = pa.table(
        {
            "item_id": pa.array([row["item_id"] for row in rows]),
            "title": pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count),
            "duration_s": pa.array(lengths, from_pandas=False),
            "published_at": times.cast(pa.timestamp(rng.choice(("ms", "us", "ns")))),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, version="2.6")
    content = buffer.getvalue()
    for _ in range(rng.choice((0, 0, 1, 3))):
        content = rng.choice((_flip, _cut_off, _cut_out))(content, rng)
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return content
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(_INSERTED).encode() + content[at:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + 1 :]


def _remove_mark(content: bytes, rng: random.Random) -> bytes:
    """One of the characters that hold a table together."""
    places = [at for at, byte in enumerate(content) if byte in b'",\t;:{}[]\n']
    if not places:
        return content
    at = rng.choice(places)
    return content[:at] + content[at + 1 :]


def _cut_out(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randrange(20) :]


def _cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _repeat_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, rng.choice(lines)]) if lines else content


def _swap_lines(content: bytes, rng: random.Random) -> bytes:
    head, *lines = content.splitlines(keepends=True) or [b""]
    rng.shuffle(lines)
    return b"".join([head, *lines])


def _blanks_around(content: bytes, rng: random.Random) -> bytes:
    separator = rng.choice((b",", b"\t", b";", b'"'))
    return content.replace(separator, rng.choice((separator + b" ", b" " + separator)), rng.randrange(1, 9))


Damage = Callable[[bytes, random.Random], bytes]
DAMAGES: tuple[Damage, ...] = (
    *(_flip, _insert, _insert, _remove, _remove_mark, _remove_mark),
    *(_cut_out, _cut_off, _repeat_line, _swap_lines, _blanks_around),
)
