"""Judges what the reader makes of a damaged table, knowing only Python's csv and json modules and pyarrow.

Is every line of the file accounted for, and is each accepted row one that a plain reader gives?
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.table_damage import COLUMNS, DamagedTable
from components.config import TableConfig
from components.contract import CATALOGUE
from components.tables.inspection import inspect_table
from components.tables.raw import TableError
from components.tables.readers import Row, read_rows

NOW_S = 1_790_000_000


class Outcome(NamedTuple):
    """What the reader made of a table, and what is wrong with that: "" where nothing is."""

    accepted: int = 0
    rejected: int = 0
    refused: str = ""  # the whole table, in these words
    fault: str = ""
    is_crash: bool = False  # whether the fault is an exception that nobody caught


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
        text = io.TextIOWrapper(io.BytesIO(plain), "utf-8", "surrogateescape").read()
        text = re.sub(r"(?m)^\ufeff", "", text)
        fault = _JUDGES.get(kind, _delimited_fault)(text, table, accepted, lines)
    return Outcome(len(accepted), len(found) - len(accepted), fault=fault)


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
        expected = expected.strip("\ufeff").strip() if expected and name == "item_id" else expected
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
