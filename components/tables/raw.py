"""Rows and cells as a file has them, before they are converted to the contract's types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from components.config import TableConfig

_UNDECODED = re.compile("[\udc80-\udcff]")


class RawRow(NamedTuple):
    """A row of a file: cells by the file's column names, or `reason` and `detail` where it cannot be read."""

    line: int  # 1-based line on which it starts; in Parquet the 1-based number of the row
    cells: dict[str, Any]
    reason: str = ""
    detail: str = ""


def texts(name: str, array: pa.Array) -> list[Any]:
    """The raw cells of a column of text."""
    return array.to_pylist()


class RawBlock(NamedTuple):
    """Some rows of a file: as columns where nothing has to be judged to take them apart, the others one by one."""

    lines: np.ndarray  # int64 [rows in columns]: as those of RawRow
    columns: dict[str, pa.Array]  # by the file's names, those that are wanted
    rows: list[RawRow]
    cells: Callable[[str, pa.Array], list[Any]] = texts  # name, values of that column → cells as those of RawRow


class Instant(NamedTuple):
    """A moment whose unit the file states."""

    seconds: int  # since 1970, UTC, rounded down


class Duration(NamedTuple):
    """A length of time whose unit the file states."""

    seconds: float


class Unreadable(NamedTuple):
    """A cell that the file's library cannot turn into a value; it costs its row."""

    reason: str
    detail: str


class TableError(ValueError):
    """A table that cannot be used: the file, what was found, what was expected."""


def undecoded(text: str, table: TableConfig) -> str:
    """What to say of the first byte of a text that did not decode, kept as U+DCNN; "" where all did."""
    match = None if text.isascii() else _UNDECODED.search(text)
    if match is None:
        return ""
    return f"byte 0x{ord(match[0]) - 0xDC00:02X} is not {table.encoding}; state the encoding of the table (latin-1?)"
