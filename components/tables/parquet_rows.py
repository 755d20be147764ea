"""Reads Parquet files into rows, cell by cell where a whole column cannot be converted: a bad cell costs its row
alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from components.tables.raw import Duration, Instant, RawBlock, RawRow, Unreadable

BATCH_ROWS = 1024
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_S = 86_400


def parquet_rows(source: pyarrow.parquet.ParquetFile, wanted: Collection[str]) -> Iterator[RawRow]:
    """The rows of a file in order, with those cells whose columns are wanted.

    Raises EOFError where there are fewer than the file says, pyarrow's exceptions where it is damaged.
    """
    for block in parquet_blocks(source, wanted, BATCH_ROWS):
        cells = {name: block.cells(name, array) for name, array in block.columns.items()}
        for row, number in enumerate(block.lines.tolist()):
            yield RawRow(number, {name: column[row] for name, column in cells.items()})


def parquet_blocks(source: pyarrow.parquet.ParquetFile, wanted: Collection[str], num_rows: int) -> Iterator[RawBlock]:
    """The same rows, up to `num_rows` at a time, as the file's columns. Raises as `parquet_rows`."""
    names = source.schema_arrow.names
    kept = [index for index, name in enumerate(names) if name in wanted]
    uuids = _uuid_columns(source)
    # A name with a dot in it would be taken for a path into a nested column.
    columns = None if any("." in names[index] for index in kept) else [names[index] for index in kept]

    def cells(name: str, array: pyarrow.Array) -> list[Any]:
        return _values(array, name in uuids)

    number = 0
    for batch in source.iter_batches(num_rows, columns=columns):
        found = {name: batch.column(index) for index, name in enumerate(batch.schema.names) if name in wanted}
        lines = np.arange(number + 1, number + 1 + batch.num_rows)
        number += batch.num_rows
        yield RawBlock(lines, found, [], cells)
    if number != source.metadata.num_rows:  # a damaged page can end a column early without an error
        raise EOFError(f"the file says that it has {source.metadata.num_rows} rows")


def _uuid_columns(source: pyarrow.parquet.ParquetFile) -> set[str]:
    columns = [source.schema.column(index) for index in range(len(source.schema))]
    return {column.path for column in columns if column.logical_type.type == "UUID"}


def _values(array: pyarrow.Array, is_uuid: bool) -> list[Any]:
    """One value a cell: None, text, number, list, `Instant`, `Duration` or `Unreadable`."""
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        return _values(array.dictionary_decode(), is_uuid)
    if is_uuid:
        return _each(array, lambda value: str(uuid.UUID(bytes=value)))
    if pyarrow.types.is_timestamp(kind):
        return _each(array.cast(pyarrow.int64()), lambda value: Instant(value // _PER_SECOND[kind.unit]))
    if pyarrow.types.is_date32(kind):
        return _each(array.cast(pyarrow.int32()), lambda value: Instant(value * _DAY_S))
    if pyarrow.types.is_date64(kind):
        return _each(array.cast(pyarrow.int64()), lambda value: Instant(value // 1_000))
    if pyarrow.types.is_duration(kind):
        return _each(array.cast(pyarrow.int64()), lambda value: Duration(value / _PER_SECOND[kind.unit]))
    if kind in _BINARY:  # text was not checked to be UTF-8 when it was read: it is decoded one cell at a time
        array, kind = array.view(_BINARY[kind]), _BINARY[kind]
    if _is_bytes(kind):
        return _each(array, _decoded)
    if _is_list(kind) and _is_bytes(kind.value_type):
        return _each(array, lambda parts: [None if part is None else _decoded(part) for part in parts])
    return _each(array, lambda value: value)


def _is_bytes(kind: pyarrow.DataType) -> bool:
    is_of = pyarrow.types.is_binary, pyarrow.types.is_large_binary, pyarrow.types.is_fixed_size_binary
    return any(is_kind(kind) for is_kind in is_of)


def _is_list(kind: pyarrow.DataType) -> bool:
    is_of = pyarrow.types.is_list, pyarrow.types.is_large_list, pyarrow.types.is_fixed_size_list
    return any(is_kind(kind) for is_kind in is_of)


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


_BINARY = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}


def _each(array: pyarrow.Array, convert: Callable[[Any], Any]) -> list[Any]:
    try:
        return [None if value is None else convert(value) for value in array.to_pylist()]
    except (ValueError, OverflowError, pyarrow.ArrowException):
        return [_cell(scalar, convert) for scalar in array]


def _cell(scalar: pyarrow.Scalar, convert: Callable[[Any], Any]) -> Any:
    try:
        value = scalar.as_py()
        return None if value is None else convert(value)
    except UnicodeDecodeError as error:
        return Unreadable("bad_encoding", f"is not UTF-8: byte 0x{error.object[error.start]:02X}")
    except (ValueError, OverflowError, pyarrow.ArrowException) as error:
        return Unreadable("bad_value", f"cannot be read: {error}")
