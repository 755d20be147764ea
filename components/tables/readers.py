"""The three tables as typed rows and rejects, on Beam.

A file is one unit of work. What is wrong with a table as a whole (no file, no rows, columns missing) is a `TableError` before anything
runs; what is wrong with one row makes that row a reject.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from components.config import DataConfig, TableConfig
from components.contract import CATALOGUE, EVENTS, USERS, Column, catalogue_columns, user_columns
from components.rejects import reject
from components.tables.formats import RawRow, TableError, open_table
from components.tables.values import CellError, TimeUnit, convert, is_empty, time_unit_of

PEEKED_ROWS = 100  # of each file, looking for columns and times
PEEKED_ROWS_FOR_TIME = 10_000  # as long as no time has been seen
PEEKED_TIMES = 100


class Row(NamedTuple):
    """A typed row and where it stands. `values` has no key for what is absent."""

    source: str
    line: int
    values: dict[str, Any]


def table_and_columns(data: DataConfig, name: str) -> tuple[TableConfig, tuple[Column, ...]]:
    """The settings and columns of the table `name`: catalogue, events or users. Raises TableError where it is not configured."""
    tables = {
        "catalogue": (data.catalogue, catalogue_columns(data)),
        "events": (data.events, EVENTS),
        "users": (data.users, user_columns(data)),
    }
    if name not in tables or tables[name][0] is None:
        raise TableError(f"no table {name!r} is configured, expected one of {', '.join(tables)}")
    table, columns = tables[name]
    names = [column.name for column in columns]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TableError(
            f"{name}: the columns {', '.join(sorted(twice))} are declared twice, or are part of the contract already"
        )
    assert table is not None
    if unknown := sorted(set(table.columns) - set(names)):
        raise TableError(
            f"{name}.columns: there is no column {', '.join(unknown)} to be named; the table has {', '.join(names)}"
        )
    return table, columns


@dataclass(frozen=True)
class TableFacts:
    """What a look at a table's files showed before anything is read in earnest."""

    files: tuple[str, ...]
    time_unit: TimeUnit
    notes: dict[str, Any] = field(
        default_factory=dict
    )  # for the summary: unit of the times, columns that are not ours, empty files


def inspect_table(table: TableConfig, columns: tuple[Column, ...]) -> TableFacts:
    """Find the table's files, check their columns and detect the unit of its times.

    Raises TableError naming the file, the columns found and expected, and the number of rows.
    """
    try:
        matched = FileSystems.match([table.path])[0].metadata_list
    except BeamIOError as error:
        raise TableError(f"{table.path}: cannot be listed: {error}") from error
    files = tuple(sorted(metadata.path for metadata in matched))
    if not files:
        raise TableError(f"{table.path}: no file matches")
    times = [table.columns.get(column.name, column.name) for column in columns if column.kind == "time"]
    seen: list[Any] = []
    ignored: set[str] = set()
    empty = []
    for path in files:
        found, rows = _peek(path, table, columns, PEEKED_ROWS if seen or not times else PEEKED_ROWS_FOR_TIME)
        ignored |= set(found) - {table.columns.get(column.name, column.name) for column in columns}
        seen += [row[name] for row in rows for name in times if not is_empty(row.get(name), table)][
            : PEEKED_TIMES - len(seen)
        ]
        if not rows:
            empty.append(path)
    if len(empty) == len(files):
        raise TableError(
            f"{files[0]}: no row; {_found_and_expected(table, columns, found)}; 0 rows in {len(files)} file(s)"
        )
    unit: TimeUnit = time_unit_of(seen) if table.timestamp_unit == "auto" else table.timestamp_unit
    if seen and unit == "unknown":
        raise TableError(
            f"{files[0]}: {times[0]}: got {seen[0]!r}, which does not say its unit; state timestamp_unit (s, ms or iso)"
        )
    notes: dict[str, Any] = {"files": len(files)}
    if seen:
        notes["timestamp_unit"] = unit
    if ignored:
        notes["ignored_columns"] = sorted(ignored)
    if empty:
        notes["files_without_rows"] = empty
    return TableFacts(files, unit, notes)


def _peek(
    path: str, table: TableConfig, columns: tuple[Column, ...], limit: int
) -> tuple[list[str], list[dict[str, Any]]]:
    """The file's columns and first rows. In JSONL the first rows say the columns."""
    with open_table(path, table) as raw:
        if raw.columns is not None:
            _check_columns(path, table, columns, raw.columns, optional_too=True)
        rows = [row.cells for row in itertools.islice(raw.rows, limit)]
    found = list(dict.fromkeys(raw.columns or (name for row in rows for name in row)))
    if rows and raw.columns is None:
        _check_columns(path, table, columns, found, optional_too=False)
    return found, rows


def _check_columns(
    path: str, table: TableConfig, columns: tuple[Column, ...], found: list[str], optional_too: bool
) -> None:
    """Raise TableError unless the file has the required columns and, where its header is final, those that the settings name."""
    contract = set(CATALOGUE + EVENTS + USERS)
    expected = [c for c in columns if c.required or (optional_too and (c.name in table.columns or c not in contract))]
    missing = [table.columns.get(column.name, column.name) for column in expected]
    missing = [name for name in missing if name not in found]
    if missing:
        with open_table(path, table) as raw:
            rows = sum(1 for _ in raw.rows)
        found_and_expected = _found_and_expected(table, columns, found)
        raise TableError(
            f"{path}: no column {', '.join(missing)}; {found_and_expected}; {rows} rows; separator {table.separator!r}"
        )


def _found_and_expected(table: TableConfig, columns: tuple[Column, ...], found: list[str]) -> str:
    names = ", ".join(repr(name) for name in found) or "none"
    expected = ", ".join(table.columns.get(c.name, c.name) + (" (required)" if c.required else "") for c in columns)
    return f"columns found: {names}; expected: {expected}"


def read_rows(
    path: str, table: TableConfig, columns: tuple[Column, ...], time_unit: TimeUnit
) -> Iterator[Row | dict[str, Any]]:
    """The rows of one file in order: a `Row`, or a reject (see `reject`)."""
    with open_table(path, table) as raw:
        for row in raw.rows:
            yield _typed(path, row, table, columns, time_unit)


def _typed(
    path: str, row: RawRow, table: TableConfig, columns: tuple[Column, ...], time_unit: TimeUnit
) -> Row | dict[str, Any]:
    if row.reason:
        return reject("tables", path, row.line, None, row.reason, row.detail)
    values: dict[str, Any] = {}
    try:
        for column in columns:
            value = convert(row.cells.get(table.columns.get(column.name, column.name)), column, table, time_unit)
            if value is not None:
                values[column.name] = value
            elif column.required:
                raise CellError("missing_required", f"{column.name}: is empty")
    except CellError as error:
        return reject("tables", path, row.line, values.get("item_id"), error.reason, str(error))
    return Row(path, row.line, values)


class _ReadFile(beam.DoFn):
    def __init__(self, table: TableConfig, columns: tuple[Column, ...], time_unit: TimeUnit):
        self._arguments = (table, columns, time_unit)

    def process(self, path: str) -> Iterator[Any]:
        for row in read_rows(path, *self._arguments):
            yield row if isinstance(row, Row) else beam.pvalue.TaggedOutput("rejects", row)


class ReadTable(beam.PTransform):
    """Pipeline → `rows` (PCollection of Row) and `rejects` (PCollection of dicts, see `reject`).

    facts: from `inspect_table`, which is where a table that cannot be used raises.
    """

    def __init__(self, table: TableConfig, columns: tuple[Column, ...], facts: TableFacts):
        super().__init__()
        self._table, self._columns, self._facts = table, columns, facts

    def expand(self, pipeline: beam.Pipeline) -> Any:
        return (
            pipeline
            | "ListFiles" >> beam.Create(self._facts.files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadFiles"
            >> beam.ParDo(_ReadFile(self._table, self._columns, self._facts.time_unit)).with_outputs(
                "rejects", main="rows"
            )
        )
