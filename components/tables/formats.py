"""A file of a table to raw rows: CSV, JSONL and Parquet, plain or gzipped, through Beam's file systems (local, gs://).

A row carries the 1-based line on which it starts (in Parquet: its 1-based number). A row that cannot be read carries the reason instead of
cells. What makes the whole file unreadable is a `TableError`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

import pyarrow
import pyarrow.parquet
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.config import TableConfig

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".dat")
JSONL_ENDINGS = (".jsonl", ".ndjson", ".json")
PARQUET_ENDINGS = (".parquet", ".pq")

MAX_RECORD_LINES = 500  # a quoted value that spans more lines is taken for a quote that was never closed
MAX_FIELD_CHARS = 1 << 24
PARQUET_BATCH_ROWS = 1024

_UNDECODED = re.compile("[\udc80-\udcff]")


class TableError(ValueError):
    """A table that cannot be used: the file, what was found, what was expected."""


class RawRow(NamedTuple):
    """A row as the file has it: cells by the file's column names, or `reason` and `detail` where it cannot be read."""

    line: int
    cells: dict[str, Any]
    reason: str = ""
    detail: str = ""


class RawTable(NamedTuple):
    """An open file: its column names (None where each row says them, in JSONL) and its rows."""

    columns: list[str] | None
    rows: Iterator[RawRow]


@contextlib.contextmanager
def open_table(path: str, table: TableConfig) -> Iterator[RawTable]:
    """Open a file by its ending; rows come lazily, in file order.

    Raises TableError, also while the rows are read, where the file as a whole cannot be read.
    """
    with contextlib.ExitStack() as files:
        name = path.lower().removesuffix(".gz")
        if name.endswith(CSV_ENDINGS):
            yield _csv(path, _lines(path, table, files), table)
        elif name.endswith(JSONL_ENDINGS):
            yield RawTable(None, _guard(path, _json_rows(_lines(path, table, files), table)))
        elif name.endswith(PARQUET_ENDINGS):
            yield _parquet(path, files)
        else:
            known = ", ".join(CSV_ENDINGS + JSONL_ENDINGS + PARQUET_ENDINGS)
            raise TableError(f"{path}: unknown kind of file, expected an ending of {known}, each also with .gz")


def _open(path: str, files: contextlib.ExitStack) -> IO[bytes]:
    raw: Any = files.enter_context(
        FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    )  # a binary file
    # Beam's own decompression takes a file that is cut off for a whole one; gzip raises.
    if path.lower().endswith(".gz"):
        raw = files.enter_context(gzip.GzipFile(fileobj=raw))
    return raw


def _guard(path: str, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    line = 0
    try:
        for row in rows:
            line = row.line
            yield row
    except (OSError, EOFError, UnicodeError, zlib.error, pyarrow.ArrowException) as error:
        raise TableError(f"{path}: cannot be read after line {line}: {error}") from error


def _lines(path: str, table: TableConfig, files: contextlib.ExitStack) -> Iterator[str]:
    """Lines with their "\n", whatever the file's line ends; an undecodable byte 0xNN is kept as U+DCNN."""
    encoding = "utf-8-sig" if table.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else table.encoding
    try:
        return files.enter_context(io.TextIOWrapper(_open(path, files), encoding, "surrogateescape"))
    except LookupError:
        raise TableError(f"{path}: encoding {table.encoding!r} is unknown") from None


def _undecoded(text: str, table: TableConfig) -> str:
    """What to say of the first byte that did not decode, or ""."""
    match = None if text.isascii() else _UNDECODED.search(text)
    return (
        f"byte 0x{ord(match[0]) - 0xDC00:02X} is not {table.encoding}; state the encoding of the table (latin-1?)"
        if match
        else ""
    )


def _csv(path: str, lines: Iterator[str], table: TableConfig) -> RawTable:
    records = _csv_records if len(table.separator) == 1 else _separated_records
    numbered = records(lines, table.separator)
    try:
        header = next(numbered, None)
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    if header is None:
        raise TableError(f"{path}: the file is empty: no columns found, 0 rows")
    line, fields = header
    if isinstance(fields, str):
        raise TableError(f"{path}: line {line}: the header cannot be read: {fields}")
    columns = [field.strip() for field in fields]
    if problem := _undecoded("".join(columns), table):
        raise TableError(f"{path}: line {line}: {problem}")
    if len(set(columns)) < len(columns):
        raise TableError(f"{path}: a column name stands twice in the header: {', '.join(columns)}")
    return RawTable(columns, _guard(path, _csv_rows(numbered, columns, table)))


def _csv_rows(
    records: Iterable[tuple[int, list[str] | str]], columns: list[str], table: TableConfig
) -> Iterator[RawRow]:
    for line, fields in records:
        if isinstance(fields, str):
            yield RawRow(line, {}, "bad_quotes", fields)
        elif len(fields) != len(columns):
            yield RawRow(line, {}, "field_count", f"got {len(fields)} fields, expected {len(columns)}")
        elif problem := _undecoded("".join(fields), table):
            yield RawRow(line, {}, "bad_encoding", problem)
        else:
            yield RawRow(line, dict(zip(columns, fields)))


def _separated_records(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """Fields between separators of several characters. Such files know no quotes: a quote is a character like any other."""
    for line, text in enumerate(lines, 1):
        if text.strip():
            yield line, text.removesuffix("\n").split(separator)


class _Rewindable:
    """Lines that remember the current record, so that reading can go on after the first line of a broken one."""

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self.record: list[str] = []

    def __iter__(self) -> _Rewindable:
        return self

    def __next__(self) -> str:
        if len(self.record) >= MAX_RECORD_LINES:
            raise csv.Error(f"a quoted value goes on for more than {MAX_RECORD_LINES} lines")
        line = self._again.popleft() if self._again else next(self._lines)
        self.record.append(line)
        return line

    def rewind(self) -> None:
        self._again.extendleft(reversed(self.record[1:]))


def _csv_records(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """(starting line, fields) of each record of RFC 4180, or (starting line, what is wrong).

    Of a record with broken quotes only its first line is given up: the lines after it are read as records of their own.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    source = _Rewindable(lines)
    start = 1
    reader = csv.reader(source, delimiter=separator, strict=True)
    while True:
        source.record = []
        try:
            fields: list[str] | str = next(reader)
            taken = len(source.record)
        except StopIteration:
            return
        except csv.Error as error:
            if not source.record:
                return
            fields, taken = f"broken quotes: {error}", 1
            source.rewind()
            reader = csv.reader(source, delimiter=separator, strict=True)
        if fields:  # a blank line is no record
            yield start, fields
        start += taken


def _json_rows(lines: Iterable[str], table: TableConfig) -> Iterator[RawRow]:
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        if problem := _undecoded(text, table):
            yield RawRow(line, {}, "bad_encoding", problem)
            continue
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield RawRow(line, {}, "bad_json", str(error))
            continue
        if isinstance(cells, dict):
            yield RawRow(line, cells)
        else:
            yield RawRow(line, {}, "bad_json", f"got {type(cells).__name__}, expected an object")


def _parquet(path: str, files: contextlib.ExitStack) -> RawTable:
    try:
        raw = _open(path, files)
        seekable = io.BytesIO(raw.read()) if path.lower().endswith(".gz") else raw
        source = files.enter_context(pyarrow.parquet.ParquetFile(seekable))
    except (OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise TableError(f"{path}: not a Parquet file: {error}") from error
    return RawTable(list(source.schema_arrow.names), _guard(path, _parquet_rows(source)))


def _parquet_rows(source: pyarrow.parquet.ParquetFile) -> Iterator[RawRow]:
    number = 0
    for batch in source.iter_batches(PARQUET_BATCH_ROWS):
        for cells in batch.to_pylist():
            number += 1
            yield RawRow(number, cells)
