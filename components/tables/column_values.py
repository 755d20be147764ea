"""Converts whole columns of cells to typed values: the same values, rejects and notes as `values.convert` gives.

Ids and times that are plainly so are converted as columns. Of all other cells each distinct one goes through `convert`,
which is the one truth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.batches import numbers_of
from components.contract import Column, Kind
from components.tables.raw import RawBlock
from components.tables.times import DAY_S, UNIT_FACTORS, UNITS_FROM
from components.tables.values import MISSING_WORDS, NUMBER, CellError, ReadingRules, convert

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "id": pa.string(),
    "text": pa.string(),
    "category": pa.string(),
    "uri": pa.string(),
    "number": pa.float64(),
    "time": pa.int64(),
}

_PLAIN_ID = "^[!-~]+$"
_PLAIN_COUNT = "^[0-9]{1,18}$"
_PLAIN_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|\+00:00)?$"
_MOMENT_BYTES = 19
_EXACT_FLOAT = 2**53
# Numbers that show their unit: from which on, and below which.
_CLEAR = {unit: (least, end) for (least, unit), end in zip(UNITS_FROM, (10**18, *(least for least, _ in UNITS_FROM)))}


class TypedColumn(NamedTuple):
    """A column of typed values."""

    values: pa.Array  # null where a cell says nothing or is faulty
    faulty: np.ndarray  # bool [rows]: cells that are not of the column's kind
    notes: list[tuple[str, np.ndarray]]  # what was made of cells, and of which, int64 [cells]


def typed_column(block: RawBlock, name: str, column: Column, rules: ReadingRules) -> TypedColumn:
    """The values of a column that the file calls `name`; all are absent where the block has no such column."""
    num_rows = len(block.lines)
    array = block.columns.get(name, pa.nulls(num_rows))
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    values, plain = _plainly(array, column, rules)
    faulty = np.zeros(num_rows, bool)
    rest = np.flatnonzero(~plain)
    if not len(rest):
        return TypedColumn(values, faulty, [])
    others, codes = _distinct(array.take(pa.array(rest)))
    found = [_converted(cell, column, rules) for cell in [*block.cells(name, others), None]]
    faulty[rest] = np.array([isinstance(value, CellError) for value, _ in found])[codes]
    typed = pa.array([None if isinstance(value, CellError) else value for value, _ in found], values.type)
    notes = [(note, rest[codes == code]) for code, (_, note) in enumerate(found) if note]
    places = np.arange(num_rows)
    places[rest] = num_rows + codes
    return TypedColumn(pa.concat_arrays([values, typed]).take(pa.array(places)), faulty, notes)


def _converted(cell: Any, column: Column, rules: ReadingRules) -> tuple[Any, str]:
    try:
        return convert(cell, column, rules)
    except CellError as error:
        return error, ""


def _distinct(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Distinct cells, and the place of each cell among them, int64 [cells]; a null stands after the last."""
    bits = pa.types.is_floating(array.type) and not pa.types.is_float16(array.type)
    keys = array.view(pa.int64() if array.type.bit_width == 64 else pa.int32()) if bits else array  # -0.0 is not 0.0
    try:
        encoded = keys.dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):  # lists
        return array, np.arange(len(array))
    others = encoded.dictionary.view(array.type) if bits else encoded.dictionary
    return others, pc.fill_null(encoded.indices, len(others)).to_numpy(zero_copy_only=False).astype(np.int64)


def _plainly(array: pa.Array, column: Column, rules: ReadingRules) -> tuple[pa.Array, np.ndarray]:
    """Values of a column, and for which cells they hold without a doubt, bool [rows]."""
    kind = ARROW_TYPES[column.kind]
    if column.kind == "id":
        found = _plain_ids(array, column, rules)
    elif column.kind == "time":
        found = _plain_times(array, column, rules)
    else:
        found = None
    if found is None:
        return pa.nulls(len(array), kind), np.zeros(len(array), bool)
    values, plain = found
    return values, plain & _says_something(array, column, rules)


def _says_something(array: pa.Array, column: Column, rules: ReadingRules) -> np.ndarray:
    """Which cells are neither null nor perhaps a word for nothing; of numbers see `_numbers_for_nothing`."""
    something = ~_flags(array.is_null())
    if _is_text(array.type):
        words = pa.array([*MISSING_WORDS, *(word.lower() for word in rules.empty_words(column))], array.type)
        something &= ~_flags(pc.is_in(pc.ascii_lower(array), words))
    return something


def _numbers_for_nothing(numbers: np.ndarray, column: Column, rules: ReadingRules) -> np.ndarray:
    """Which numbers a declared word for nothing may stand for, however it is written."""
    words = [float(word) for word in rules.empty_words(column) if NUMBER.fullmatch(word)]
    return np.isin(numbers.astype(np.float64), words)


def _plain_ids(array: pa.Array, column: Column, rules: ReadingRules) -> tuple[pa.Array, np.ndarray] | None:
    if _is_text(array.type):
        plain = _flags(pc.match_substring_regex(_bytes(array), _PLAIN_ID))
        return array if array.type == pa.string() else array.cast(pa.string()), plain
    if pa.types.is_integer(array.type):
        return array.cast(pa.string()), ~_numbers_for_nothing(numbers_of(array, 0), column, rules)
    return None


def _plain_times(array: pa.Array, column: Column, rules: ReadingRules) -> tuple[pa.Array, np.ndarray] | None:
    seconds, plain = _seconds(array, column, rules)
    if seconds is None:
        return None
    span = rules.time_spans[column.name]
    return pa.array(seconds), plain & (span.first <= seconds) & (seconds < span.end)


def _seconds(array: pa.Array, column: Column, rules: ReadingRules) -> tuple[np.ndarray | None, np.ndarray]:
    """Seconds since 1970, int64 [rows], and where they are plain; None where no cell can be."""
    kind, unit, stated = array.type, rules.time_unit, rules.table.timestamp_unit
    everywhere = ~_flags(array.is_null())
    if pa.types.is_timestamp(kind):
        return numbers_of(array.cast(pa.int64()), 0) // UNIT_FACTORS[kind.unit], everywhere
    if pa.types.is_date32(kind):
        return numbers_of(array.cast(pa.int32()), 0).astype(np.int64) * DAY_S, everywhere
    if _is_text(kind) and unit == "iso":
        plain = _flags(pc.match_substring_regex(_bytes(array), _PLAIN_MOMENT))
        return _moments(array, plain)
    if unit not in UNIT_FACTORS:
        return None, everywhere
    if _is_text(kind):
        plain = _flags(pc.match_substring_regex(_bytes(array), _PLAIN_COUNT))
        counts = numbers_of(pc.if_else(pa.array(plain), array, pa.scalar("0", kind)).cast(pa.int64()), 0)
    elif pa.types.is_signed_integer(kind):
        counts, plain = numbers_of(array, 0).astype(np.int64), everywhere
    elif pa.types.is_float64(kind):
        numbers = numbers_of(array, 0)
        plain = everywhere & (np.abs(numbers) < _EXACT_FLOAT) & (np.floor(numbers) == numbers)
        counts = np.where(plain, numbers, 0).astype(np.int64)
    else:
        return None, everywhere
    plain = plain & ~_numbers_for_nothing(counts, column, rules)
    if stated == "auto":
        least, end = _CLEAR[unit]
        plain &= (least <= counts) & (counts < end)
    return counts // UNIT_FACTORS[unit], plain


def _moments(array: pa.Array, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of texts that begin with YYYY-MM-DD HH:MM:SS where `plain`, and which are days and times of day."""
    seconds, found = np.zeros(len(array), np.int64), np.zeros(len(array), bool)
    rows = np.flatnonzero(plain)
    heads = _bytes(pc.utf8_slice_codeunits(array.filter(pa.array(plain)), 0, _MOMENT_BYTES))
    if not len(rows):
        return seconds, found
    digits = np.frombuffer(b"".join(heads.to_pylist()), np.uint8).reshape(-1, _MOMENT_BYTES).astype(np.int64) - ord("0")
    year = digits[:, :4] @ [1000, 100, 10, 1]
    month, day, hour, minute, second = (digits[:, at : at + 2] @ [10, 1] for at in (5, 8, 11, 14, 17))
    sound = (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60) & (year > 0)
    months = np.where(sound, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    first = months.astype("datetime64[D]")
    length = ((months + 1).astype("datetime64[D]") - first).astype(np.int64)
    found[rows] = sound & (day >= 1) & (day <= length)
    seconds[rows] = (first.astype(np.int64) + day - 1) * DAY_S + hour * 3600 + minute * 60 + second
    return seconds, found


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _bytes(array: pa.Array) -> pa.Array:
    """Text as bytes, which nobody checks."""
    return array.view(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary())


def _flags(array: pa.Array) -> np.ndarray:
    """A boolean array; null is False."""
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)
