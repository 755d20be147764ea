"""Opens a file of a table as raw rows: CSV, JSON and Parquet, plain or gzipped, through Beam's file systems (local,
gs://).

A row that cannot be read carries the reason instead of cells. What makes the whole file unreadable is a `TableError`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.config import TableConfig
from components.tables.csv_blocks import csv_blocks
from components.tables.csv_records import QuoteStyle, Record, quote_style, records
from components.tables.json_rows import json_rows
from components.tables.parquet_rows import parquet_blocks, parquet_rows
from components.tables.raw import RawBlock, RawRow, TableError, undecoded

CSV_ENDINGS = (".csv", ".tsv", ".txt", ".dat")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
PARQUET_ENDINGS = (".parquet", ".pq")
ENDINGS = CSV_ENDINGS + JSON_ENDINGS + PARQUET_ENDINGS

_BOMS = {b"\xff\xfe\x00\x00": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\x1f\x8b": "gzip"}
_UNREADABLE = (OSError, EOFError, UnicodeError, zlib.error, pyarrow.ArrowException)


class RawTable(NamedTuple):
    """An open file: its column names (None where each row says them, in JSON), and how its quotes are read.

    `read` gives its rows in file order, or `blocks` the same rows many at a time: one of them, once. Their argument
    names the columns that are looked at, others may be left out.
    """

    columns: list[str] | None
    read: Callable[[Collection[str]], Iterator[RawRow]]
    blocks: Callable[[Collection[str]], Iterator[RawBlock]]
    quotes: QuoteStyle = "auto"


NOTHING = RawTable([], lambda wanted: iter(()), lambda wanted: iter(()))
BLOCK_ROWS = 1 << 15


def has_known_ending(path: str) -> bool:
    """Whether a file is of a kind that `open_table` reads, by its name."""
    return path.lower().removesuffix(".gz").endswith(ENDINGS)


@contextlib.contextmanager
def open_table(path: str, table: TableConfig) -> Iterator[RawTable]:
    """Open a file by its ending. A file without a byte has no columns and no rows.

    Raises TableError, also while the rows are read, where the file as a whole cannot be read.
    """
    with contextlib.ExitStack() as files:
        name = path.lower().removesuffix(".gz")
        if name.endswith(CSV_ENDINGS):
            yield _csv(path, _lines(path, table, files), table)
        elif name.endswith(JSON_ENDINGS):
            rows = _guarded(path, json_rows(_lines(path, table, files), table))
            yield RawTable(None, lambda wanted: rows, lambda wanted: _in_blocks(rows))
        elif name.endswith(PARQUET_ENDINGS):
            yield _parquet(path, files)
        else:
            known = ", ".join(ENDINGS)
            raise TableError(f"{path}: unknown kind of file, expected an ending of {known}, each also with .gz")


def _open(path: str, files: contextlib.ExitStack) -> IO[bytes]:
    raw: Any = files.enter_context(FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))
    # Beam's own decompression takes a file that is cut off for a whole one; gzip raises.
    if path.lower().endswith(".gz"):
        raw = files.enter_context(gzip.GzipFile(fileobj=raw))
    return raw


def _guarded(path: str, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    line = 0
    try:
        for row in rows:
            line = row.line
            yield row
    except _UNREADABLE as error:
        raise TableError(f"{path}: cannot be read after line {line}: {error}") from error


def _guarded_blocks(path: str, blocks: Iterator[RawBlock]) -> Iterator[RawBlock]:
    line = 0
    try:
        for block in blocks:
            line = max([line, *block.lines[-1:].tolist(), *(row.line for row in block.rows[-1:])])
            yield block
    except _UNREADABLE as error:
        raise TableError(f"{path}: cannot be read after line {line}: {error}") from error


def _in_blocks(rows: Iterator[RawRow]) -> Iterator[RawBlock]:
    while some := list(itertools.islice(rows, BLOCK_ROWS)):
        yield RawBlock(np.zeros(0, np.int64), {}, some)


def _lines(path: str, table: TableConfig, files: contextlib.ExitStack) -> Iterator[str]:
    """Lines with their "\n", whatever the file's line ends, without the byte order marks that stand before some; an
    undecodable byte 0xNN is kept as U+DCNN."""
    raw: io.BufferedReader[Any] = io.BufferedReader(_open(path, files))  # type: ignore[type-var]
    if table.encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        _refuse_other_encodings(path, raw)
    try:
        text = files.enter_context(io.TextIOWrapper(raw, table.encoding, "surrogateescape"))
    except LookupError:
        raise TableError(f"{path}: encoding {table.encoding!r} is unknown") from None
    return (line.removeprefix("\ufeff") for line in text)


def _refuse_other_encodings(path: str, raw: io.BufferedReader[Any]) -> None:
    try:
        head = raw.peek(4)
    except _UNREADABLE as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    for mark, name in _BOMS.items():
        if head.startswith(mark):
            advice = "its name should end with .gz" if name == "gzip" else f"state encoding: {name}"
            raise TableError(f"{path}: begins as {name} does; {advice}")


def _csv(path: str, lines: Iterator[str], table: TableConfig) -> RawTable:
    try:
        quotes, lines = quote_style(lines, table.separator, table.quotes)
        parsed = records(lines, table.separator, quotes)
        header = next(parsed, None)
    except _UNREADABLE as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    if header is None:
        return NOTHING
    if header.reason:
        raise TableError(f"{path}: line {header.line}: the header cannot be read: {header.detail}")
    columns = [field.strip().strip("\ufeff") for field in header.fields]
    if problem := undecoded("".join(columns), table):
        raise TableError(f"{path}: line {header.line}: {problem}")
    fields = header.fields

    def rows_of(found: Iterator[Record]) -> Iterator[RawRow]:
        return _csv_rows(found, fields, columns, table)

    rows = _guarded(path, rows_of(parsed))
    return RawTable(
        columns,
        lambda wanted: rows,
        lambda wanted: _guarded_blocks(
            path, csv_blocks(parsed, BLOCK_ROWS, fields, columns, table.separator, wanted, rows_of)
        ),
        quotes,
    )


def _csv_rows(parsed: Iterator[Record], header: list[str], columns: list[str], table: TableConfig) -> Iterator[RawRow]:
    for record in parsed:
        if record.reason:
            yield RawRow(record.line, {}, record.reason, record.detail)
        elif problem := undecoded("".join(record.fields), table):
            yield RawRow(record.line, {}, "bad_encoding", problem)
        elif record.fields == header:
            yield RawRow(record.line, {}, "repeated_header", "the header again, as between files that were joined")
        else:
            yield RawRow(record.line, dict(zip(columns, record.fields)))


def _parquet(path: str, files: contextlib.ExitStack) -> RawTable:
    try:
        raw = _open(path, files)
        seekable = io.BytesIO(raw.read()) if path.lower().endswith(".gz") else raw
        if not seekable.read(1):
            return NOTHING
        seekable.seek(0)
        source = files.enter_context(pyarrow.parquet.ParquetFile(seekable))
    except _UNREADABLE as error:
        raise TableError(f"{path}: not a Parquet file: {error}") from error
    names = list(source.schema_arrow.names)
    return RawTable(
        names,
        lambda wanted: _guarded(path, parquet_rows(source, wanted)),
        lambda wanted: _guarded_blocks(path, parquet_blocks(source, wanted, BLOCK_ROWS)),
    )
