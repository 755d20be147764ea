"""Converts one cell of a table to one typed value of the contract.

A value is `str` for ids, texts and categories, `list[str]` for lists, `float` for numbers, `int` (seconds since 1970,
UTC) for times and `list[float]` for embeddings. What is not plainly of its kind is a `CellError` with a reason, and so
a reject.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from components.config import TableConfig
from components.contract import Column, Kind
from components.tables.raw import Duration, Instant, Unreadable
from components.tables.times import TimeError, TimeSpan, TimeUnit, says_no_date, seconds_of, unit_of

FLOAT32_MAX = 3.4028234e38
# Words for "nothing" that programs write; as text they stay, and are counted.
MISSING_WORDS = frozenset(("nan", "null", "none", "nil", "n/a", "na", "#n/a", "<na>", "\\n", "-", "--", "undefined"))

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = {"nan", "inf", "infinity"}
_BRACKETS = {"[": "]", "{": "}"}


class CellError(ValueError):
    """A cell that is not of its column's kind: `reason` is the reject's code, the message its detail."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class Value(NamedTuple):
    """A converted cell: its value, None where it says nothing, and a note on what was made of it, to be counted."""

    value: Any | None
    note: str = ""


ABSENT = Value(None)


@dataclass(frozen=True)
class ReadingRules:
    """How the cells of one table are read: its settings, the unit of its times and their plausible spans by column."""

    table: TableConfig
    time_unit: TimeUnit = "unknown"
    time_spans: Mapping[str, TimeSpan] = field(default_factory=dict)

    def empty_words(self, column: Column) -> tuple[str, ...]:
        """The cells that say "nothing" in a column, besides the blank one."""
        return self.table.empty_values + self.table.empty_values_of.get(column.name, ())


def convert(value: Any, column: Column, rules: ReadingRules) -> Value:
    """The typed value of a cell.

    value: text from CSV; text, number, list, None or a raw cell (`components.tables.raw`) from JSON and Parquet.
    Raises CellError naming the column, the value and the expectation.
    """
    if is_absent(value, column, rules):
        return ABSENT
    try:
        if isinstance(value, Unreadable):
            raise CellError(value.reason, value.detail)
        if _is_nan(value) and (column.kind in ("number", "time") or not isinstance(value, str)):
            return Value(None, f"{column.name}: NaN, read as absent")
        converted = _CONVERTERS[column.kind](value, column, rules)
    except (CellError, TimeError) as error:
        raise CellError(error.reason, f"{column.name}: {error}") from None
    return converted if isinstance(converted, Value) else Value(converted, _missing_word(converted, column))


def is_absent(value: Any, column: Column, rules: ReadingRules) -> bool:
    """Whether a cell says nothing: null, blank, or a word that its table declares."""
    return value is None or (isinstance(value, str) and not value.strip()) or _is_declared_empty(value, column, rules)


def _is_declared_empty(value: Any, column: Column, rules: ReadingRules) -> bool:
    # Numbers are compared as numbers: 0, 0.0 and "0" are one word.
    words = rules.empty_words(column)
    if not words or isinstance(value, (list, dict, bool)):
        return False
    if isinstance(value, str):
        text = value.strip()
        if text in words:
            return True
        if column.kind not in ("number", "time") or not NUMBER.fullmatch(text):
            return False
        value = float(text)
    return isinstance(value, (int, float, Decimal)) and any(
        value == float(word) for word in words if NUMBER.fullmatch(word)
    )


def _is_nan(value: Any) -> bool:
    """Whether a cell is the number that is none, as a number or as its word."""
    if isinstance(value, str):
        return value.strip().lower() == "nan"
    return isinstance(value, (float, Decimal)) and math.isnan(value)


def _missing_word(value: Any, column: Column) -> str:
    for text in (value or ()) if column.kind == "list" else [value]:
        if isinstance(text, str) and len(text) <= 9 and text.casefold() in MISSING_WORDS:
            return f"{column.name}: {text!r}, read as text; if it says nothing, state it in empty_values"
    return ""


def _characters(value: Any) -> str:
    """Text as it stands; an integer is its decimal text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite() and value.as_tuple().exponent == 0:
        return str(int(value))
    if not isinstance(value, str):
        raise CellError("bad_text", f"got {_show(value)}, expected text or an integer")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise CellError("bad_encoding", f"{_show(value)} is not valid Unicode")
    return value


def _text(value: Any, *_: Any) -> str:
    """Text without the blanks around it, in the composed form of Unicode (NFC): one word has one spelling."""
    text = _characters(value).strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _id(value: Any, *_: Any) -> str | None:
    try:
        text = _characters(value).strip().strip("\ufeff").strip()
    except CellError as error:
        if error.reason == "bad_encoding":
            raise
        kind = type(value).__name__
        detail = f"got {_show(value)}, expected text or an integer; a {kind} has no one spelling"
        raise CellError("bad_id", detail) from None
    if _breaks_line(text):
        raise CellError("bad_id", f"got {_show(text)}, expected an id of one line")
    return text or None


def _breaks_line(text: str) -> bool:
    """Whether a text cannot be a line of a vocabulary's file."""
    return any(character in text for character in "\n\r\0")


def _category(value: Any, *_: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else _text(value)
    if _breaks_line(text):
        raise CellError("bad_text", f"got {_show(text)}, expected a word of one line")
    return text


def _list(value: Any, column: Column, rules: ReadingRules) -> list[str] | None:
    parts = _parts(value.strip(), rules.table.list_separator) if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise CellError("bad_list", f"got {_show(value)}, expected a list of texts")
    try:
        texts = [_text(part) for part in parts if not _is_empty_part(part, column, rules)]
    except CellError as error:
        raise CellError("bad_list" if error.reason == "bad_text" else error.reason, str(error)) from None
    return list(filter(None, texts)) or None


def _is_empty_part(part: Any, column: Column, rules: ReadingRules) -> bool:
    return part is None or (isinstance(part, float) and _is_nan(part)) or _is_declared_empty(part, column, rules)


def _parts(text: str, separator: str) -> Any:
    """The values of a list in one cell: a JSON array, or texts between separators."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    inside = text[1:-1].strip()
    in_brackets = text[-1] == _BRACKETS.get(text[0]) and (separator not in text or inside[:1] in ("'", '"', "{"))
    if in_brackets or (text[0] == "(" and text[-1] == ")" and inside[:1] in ("'", '"')):
        raise CellError("bad_list", f"got {_show(text)}, expected a JSON array or values with {separator!r} between")
    return text.split(separator)


def _number(value: Any, column: Column, *_: Any) -> float | Value:
    number: Any = value
    if isinstance(value, str):
        text = value.strip()
        if text.lstrip("+-").lower() not in _NOT_FINITE and not NUMBER.fullmatch(text):
            raise CellError("bad_number", f"got {_show(value)}, expected a number such as 3.5{_advice(text)}")
        number = float(text)
    if isinstance(value, Decimal):
        number = float(value)
    if isinstance(value, Duration) and column.name.endswith("_s"):
        number = value.seconds
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise CellError("bad_number", f"got {_show(value)}, expected a number")
    if not abs(number) <= FLOAT32_MAX:
        raise CellError("non_finite", f"got {_show(value)}, expected a finite number that fits float32")
    if column.above_zero and number <= 0:
        return Value(None, f"{column.name}: 0 or less, read as absent")
    return float(number)


def _advice(text: str) -> str:
    return "; if it says nothing, state it in empty_values" if text.casefold() in MISSING_WORDS else ""


def _embedding(value: Any, column: Column, *_: Any) -> list[float]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split()
        except (ValueError, RecursionError):
            expected = "a JSON array or numbers with spaces between"
            raise CellError("bad_embedding", f"got {_show(value)}, expected {expected}") from None
    if not isinstance(value, list):
        raise CellError("bad_embedding", f"got {_show(value)}, expected a list of numbers")
    if len(value) != column.dim:
        raise CellError("bad_embedding", f"got {len(value)} numbers, expected {column.dim}")
    return [_number(element, column) for element in value]  # type: ignore[misc]


def _time(value: Any, column: Column, rules: ReadingRules) -> int | Value:
    stated = rules.table.timestamp_unit
    if stated in ("auto", "iso") and says_no_date(value):
        if column.name == "timestamp":
            raise CellError("bad_time", f"got {_show(value)}, a word for no time")
        return Value(None, f"{column.name}: {_show(value)}, read as absent")
    typed = isinstance(value, (Instant, date))
    if stated == "auto" and not typed and (rules.time_unit == "unknown" or unit_of(value) != rules.time_unit):
        raise CellError("mixed_time_unit", f"got {_show(value)}, expected {_EXPECTED[rules.time_unit]}{_sizes(value)}")
    return seconds_of(value, rules.time_unit, rules.time_spans[column.name])


def _sizes(value: Any) -> str:
    is_small = unit_of(value) == "unknown" and NUMBER.fullmatch(str(value).strip())
    return "; a number this small could be a day of a spreadsheet or a date without dashes" if is_small else ""


_EXPECTED: Mapping[TimeUnit, str] = {
    "s": "seconds since 1970, as in the table's first rows",
    "ms": "milliseconds since 1970, as in the table's first rows",
    "us": "microseconds since 1970, as in the table's first rows",
    "ns": "nanoseconds since 1970, as in the table's first rows",
    "iso": "an ISO-8601 time, as in the table's first rows",
    "unknown": "a time whose unit the table's first rows show; state it with timestamp_unit",
}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_CONVERTERS: dict[Kind, Callable[..., Any]] = {
    "id": _id,
    "text": _text,
    "uri": lambda value, *_: _characters(value),
    "category": _category,
    "list": _list,
    "number": _number,
    "embedding": _embedding,
    "time": _time,
}
