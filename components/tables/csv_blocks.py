"""Takes the rows of delimited text apart many at a time, as Arrow columns.

A line is taken apart here where it plainly is a row: of as many fields as the header, without quotes, blanks around
separators, NUL or undecoded bytes. Every other line goes through `csv_records`, so that no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from components.tables.csv_records import Record, Records, record_of
from components.tables.raw import RawBlock, RawRow

_NEWLINE, _BLANK, _FIRST_BEYOND_ASCII = 10, 32, 128
_UNIT = "\x1f"  # stands for a separator that is not one ASCII character

Rows = Callable[[Iterator[Record]], Iterator[RawRow]]


def csv_blocks(
    parsed: Records,
    num_lines: int,
    header: Sequence[str],
    columns: Sequence[str],
    separator: str,
    wanted: Collection[str],
    rows: Rows,
) -> Iterator[RawBlock]:
    """The rows of a file after its header, block by block.

    parsed: the file's records, of which the header was read. num_lines: at least, of a block.
    header: its fields; columns: their names.
    wanted: the columns that are looked at. rows: makes rows of the records of lines that have to be read one by one.
    """
    places = {name: index for index, name in enumerate(columns) if name in wanted}
    while True:
        numbers, lines, records = parsed.take(num_lines)
        if not lines and not records:
            return
        text = _Text.of(lines, separator)
        plain = _plain_lines(text, lines, separator, header)
        odd = (record_of(numbers[at], lines[at], separator, len(header)) for at in np.flatnonzero(~plain))
        found = [*rows(record for record in odd if record is not None), *rows(iter(records))]
        yield RawBlock(np.array(numbers, np.int64)[plain], _cells(text, plain, len(header), places), found)


class _Text(NamedTuple):
    """Lines as bytes, and where what in them is: int64 places in `data`."""

    data: np.ndarray  # uint8, UTF-8 with one byte between fields; what did not decode stands as surrogates
    starts: np.ndarray  # of lines
    ends: np.ndarray  # of lines, where the line end stands
    marks: np.ndarray  # separators
    is_doubtful: bool  # whether another character looks like the separator
    is_whole: bool  # whether all bytes of the file did decode

    @classmethod
    def of(cls, lines: Sequence[str], separator: str) -> _Text:
        text = "".join(lines)
        if lines and not lines[-1].endswith("\n"):
            text += "\n"
        is_byte = len(separator) == 1 and separator.isascii()
        is_doubtful = not is_byte and _UNIT in text
        if not is_byte:
            text = text.replace(separator, _UNIT)
        try:
            encoded, is_whole = text.encode(), True
        except UnicodeEncodeError:
            encoded, is_whole = text.encode("utf-8", "surrogatepass"), False
        data = np.frombuffer(encoded, np.uint8)
        ends = np.flatnonzero(data == _NEWLINE)
        starts = np.concatenate([ends[:0], [0], ends[:-1] + 1])[: len(ends)]
        marks = np.flatnonzero(data == ord(separator if is_byte else _UNIT))
        return cls(data, starts, ends, marks, is_doubtful, is_whole)


def _plain_lines(text: _Text, lines: Sequence[str], separator: str, header: Sequence[str]) -> np.ndarray:
    """Which lines are rows without a doubt, bool [lines]."""
    data = text.data
    marks_before = np.searchsorted(text.marks, text.ends)
    plain = np.diff(marks_before, prepend=0) == len(header) - 1
    plain &= (data[text.starts] != _BLANK) & (data[text.ends - 1] != _BLANK)
    plain &= (text.ends > text.starts) & (not text.is_doubtful)

    def forbid(places: np.ndarray) -> None:
        plain[np.searchsorted(text.ends, places)] = False

    if separator != " ":
        forbid(text.marks[(data[text.marks - 1] == _BLANK) | (data[text.marks + 1] == _BLANK)])
    forbid(np.flatnonzero(data == 0))
    if not text.is_whole:
        forbid(np.flatnonzero(data >= _FIRST_BEYOND_ASCII))
    beginning = header[0] + separator if len(header) > 1 else header[0]
    is_header = np.fromiter((line.startswith(beginning) for line in lines), bool, len(lines))  # perhaps, again
    return plain & ~is_header


def _cells(text: _Text, plain: np.ndarray, num_fields: int, places: dict[str, int]) -> dict[str, pa.Array]:
    """The fields at some places of the plain lines, as columns of text by name."""
    marks = text.marks[plain[np.searchsorted(text.ends, text.marks)]].reshape(int(plain.sum()), num_fields - 1)
    starts = np.column_stack([text.starts[plain], marks + 1])
    ends = np.column_stack([marks, text.ends[plain]])
    return {name: _texts(text.data, starts[:, place], ends[:, place]) for name, place in places.items()}


def _texts(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> pa.Array:
    """Pieces of UTF-8 as an Arrow array."""
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data[places])]
    return pa.StringArray.from_buffers(len(starts), *buffers[1:])
