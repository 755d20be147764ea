"""Damaged tables, and a judge of what the reader makes of them that knows only Python's csv and json modules and
pyarrow.

A table is well formed, in one of the formats, and then damaged at random places. The judge asks whether every line of
the file is accounted for and whether each accepted row is one that a plain reader gives.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from components.config import TableConfig
from components.contract import CATALOGUE
from components.tables.inspection import inspect_table
from components.tables.raw import TableError
from components.tables.readers import Row, read_rows

COLUMNS = ("item_id", "title", "tags", "duration_s")
SEPARATORS = {"csv": ",", "tsv": "\t", "txt": ";", "dat": "::"}
FORMATS = (*SEPARATORS, "jsonl", "json", "parquet")
NOW_S = 1_790_000_000
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


class Outcome(NamedTuple):
    """What the reader made of a table, and what is wrong with that: "" where nothing is."""

    accepted: int = 0
    rejected: int = 0
    refused: str = ""  # the whole table, in these words
    fault: str = ""
    is_crash: bool = False  # whether the fault is an exception that nobody caught


def make(rng: random.Random) -> DamagedTable:
    """A table in some format, plain or gzipped, with no to four kinds of damage."""
    kind = rng.choice(FORMATS)
    rows = [_row(rng, number) for number in range(rng.randrange(1, 12))]
    if kind == "parquet":
        content, lines = _parquet(rng, rows), frozenset()
    else:
        text = _text(rng, kind, rows)
        lines = frozenset(text.splitlines()[1:]) if kind in SEPARATORS else frozenset()
        content = text.encode()
        for _ in range(rng.randrange(5)):
            content = rng.choice(DAMAGES)(content, rng)
    name = f"table.{kind}"
    if rng.random() < 0.2:
        name, content = f"{name}.gz", gzip.compress(content, mtime=0)
        if rng.random() < 0.2:
            content = content[: rng.randrange(len(content))]
    return DamagedTable(name, content, {"separator": SEPARATORS.get(kind, ",")}, lines)


def judge(table: DamagedTable, folder: Path) -> Outcome:
    """Read a table as the node does and compare with a plain reader; any exception but TableError is a fault."""
    path = folder / table.name
    path.write_bytes(table.content)
    config = TableConfig(str(path), **table.settings)
    try:
        facts = inspect_table(config, CATALOGUE, NOW_S)
        found = list(read_rows(str(path), CATALOGUE, facts))
    except TableError as error:
        return Outcome(refused=str(error))
    except Exception as error:  # noqa: BLE001  (what the fuzzer is there to find)
        return Outcome(fault=f"{type(error).__name__}: {error}", is_crash=True)
    accepted = [row for row in found if isinstance(row, Row)]
    lines = [row.line if isinstance(row, Row) else row["line"] for row in found]
    plain = table.content if not table.name.endswith(".gz") else gzip.decompress(table.content)
    kind = table.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        fault = _parquet_fault(plain, accepted, len(found))
    else:
        text = io.TextIOWrapper(io.BytesIO(plain), "utf-8-sig", "surrogateescape").read()
        fault = _JUDGES.get(kind, _delimited_fault)(text, table, accepted, lines)
    return Outcome(len(accepted), len(found) - len(accepted), fault=fault)


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
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.DictWriter(buffer, COLUMNS, delimiter=SEPARATORS[kind], lineterminator=end, quoting=quoting)
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


def _delimited_fault(text: str, table: DamagedTable, accepted: list[Row], starts: list[int]) -> str:
    """Each line belongs to one row or reject; each row is what a plain reader gives from its line on."""
    lines = text.split("\n")
    separator = table.settings["separator"]
    if starts != sorted(set(starts)):
        return f"lines told twice or out of order: {starts}"
    styles: tuple[Callable[[list[str], int, str], tuple[list[str], int]], ...] = (_split_record,)
    if len(separator) == 1:
        styles = (_csv_record, _split_record) if separator == "\t" else (_csv_record,)
    faults = [_fault_by_style(lines, table, accepted, starts, style) for style in styles]
    return "" if "" in faults else "; ".join(faults)


def _fault_by_style(lines: list[str], table: DamagedTable, accepted: list[Row], starts: list[int], style: Any) -> str:
    separator = table.settings["separator"]
    first = next(number for number, line in enumerate(lines, 1) if line.strip(" "))
    header, taken = style(lines, first, separator)
    names = _known_names(header)
    ends = [*starts[1:], len(lines) + 1]
    rows = {row.line: row for row in accepted}
    if lost := [n for n in range(first + taken, min(starts, default=len(lines) + 1)) if lines[n - 1].strip(" ")]:
        return f"lines before the first row are lost: {lost}"
    for start, end in zip(starts, ends):
        if start in rows:
            fields, taken = style(lines, start, separator)
            if fault := _difference(
                rows[start], {names[name]: cell for name, cell in zip(header, fields) if name in names}
            ):
                return f"line {start}: {fault}"
            if lost := [n for n in range(start + taken, end) if lines[n - 1].strip(" ")]:
                return f"lines after row {start} are lost: {lost}"
        # A record over several lines must not have swallowed rows of the table.
        if swallowed := [n for n in range(start + 1, end) if _is_whole_row(lines[n - 1], table.rows)]:
            return f"rows swallowed by the record of line {start}: {swallowed}"
    return ""


def _known_names(names: Iterable[str]) -> dict[str, str]:
    """The file's names of columns that are known by them, or by the only near miss; the first file's name of each."""
    exact = {name: name.strip().strip("\ufeff") for name in names}
    known = {name: column for name, column in exact.items() if column in COLUMNS}
    for column in set(COLUMNS) - set(known.values()):
        near = [name for name, plain in exact.items() if _letters(plain) == _letters(column)]
        known |= {near[0]: column} if len(near) == 1 else {}
    return known


def _renamed(cells: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names[name]: cell for name, cell in cells.items() if name in names}


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character not in " \t\n\r_.:-")


def _is_whole_row(line: str, rows: frozenset[str]) -> bool:
    return line in rows and line.startswith(("id", '"id')) and '"' not in line.strip('"').replace('""', "")


def _csv_record(lines: list[str], start: int, separator: str) -> tuple[list[str], int]:
    taken = itertools.count()
    source = (line + "\n" for line in lines[start - 1 :] if next(taken) >= 0)
    try:
        fields = next(csv.reader(source, delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        fields = []
    return fields, next(taken)


def _split_record(lines: list[str], start: int, separator: str) -> tuple[list[str], int]:
    return lines[start - 1].split(separator), 1


def _difference(row: Row, cells: dict[str, Any]) -> str:
    """What of an accepted row a plain reader does not give."""
    for name in ("item_id", "title"):
        plain = cells.get(name)
        expected = unicodedata.normalize("NFC", str(plain).strip()) if plain not in (None, "") else None
        expected = expected.strip("\ufeff") if expected and name == "item_id" else expected
        if row.values.get(name) != (expected or None):
            return f"{name}: got {row.values.get(name)!r}, a plain reader gives {expected!r}"
    if "duration_s" in row.values and row.values["duration_s"] != _plain_number(cells.get("duration_s")):
        return f"duration_s: got {row.values['duration_s']!r}, a plain reader gives {cells.get('duration_s')!r}"
    return ""


def _plain_number(cell: Any) -> float | None:
    try:
        return float(str(cell).strip())
    except ValueError:
        return None


def _json_lines_fault(text: str, table: DamagedTable, accepted: list[Row], starts: list[int]) -> str:
    lines = text.split("\n")
    if text.lstrip().startswith("["):  # damage has made it one array
        return _array_fault(text, table, accepted, starts)
    filled = [number for number, line in enumerate(lines, 1) if line.strip()]
    if starts != filled:
        return f"lines {filled} became rows {starts}"
    names = _known_names(dict.fromkeys(name for line in lines for cells in _objects(line) for name in cells))
    for row in accepted:
        if fault := _difference(row, _renamed(json.loads(lines[row.line - 1]), names)):
            return f"line {row.line}: {fault}"
    return ""


def _array_fault(text: str, table: DamagedTable, accepted: list[Row], starts: list[int]) -> str:
    if not text.lstrip().startswith("["):
        return _json_lines_fault(text, table, accepted, starts)
    try:
        elements = json.loads(text)
    except ValueError:
        elements = None
    if elements is None:
        objects = list(_objects(text))
        names = _known_names(dict.fromkeys(name for one in objects for name in one))
        found = [_renamed(one, names) for one in objects]
        return next((f"{row} is no object" for row in accepted if all(_difference(row, one) for one in found)), "")
    if len(starts) != len(elements):
        return f"{len(elements)} elements became {len(starts)} rows"
    return ""


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object that begins anywhere in a text."""
    decoder = json.JSONDecoder()
    for at in (at for at, character in enumerate(text) if character == "{"):
        try:
            yield decoder.raw_decode(text, at)[0]
        except ValueError:
            continue


def _parquet_fault(content: bytes, accepted: list[Row], count: int) -> str:
    try:
        source = pq.read_table(io.BytesIO(content))
    except (OSError, pa.ArrowException) as error:
        return f"{count} rows of a file that a plain reader refuses: {error}"
    if count != source.num_rows:
        return f"{source.num_rows} rows became {count}"
    for row in accepted:
        cells = {}
        for name in ("item_id", "title", "duration_s"):
            if name in source.column_names:
                cells[name] = source.column(name)[row.line - 1].as_py()
        if fault := _difference(row, cells):
            return f"row {row.line}: {fault}"
    return ""


_JUDGES = {"jsonl": _json_lines_fault, "json": _array_fault}
