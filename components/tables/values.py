"""One cell of a table to one typed value. Standard library and dateutil only.

A value is `str` for ids, texts and categories, `list[str]` for lists, `float` for numbers, `int` (seconds since 1970, UTC) for times and
`list[float]` for embeddings. Nothing is guessed: what is not plainly of its kind is a `CellError` with a reason, and so a reject.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Literal

from dateutil.parser import isoparser

from components.config import TableConfig
from components.contract import Column, Kind

TimeUnit = Literal["s", "ms", "iso", "unknown"]

FLOAT32_MAX = 3.4028234e38
SECONDS_BELOW = 1e11  # a plain number from here on is milliseconds: 1e11 s is the year 5138, 1e11 ms is 1973
SECONDS_FROM = 1e8  # below, a plain number without a stated unit could be a year, a day number or a counter: refused
YEAR_1800_S, YEAR_2100_S = -5_364_662_400, 4_102_444_800
TIME_RANGES_S = {"timestamp": (0, YEAR_2100_S)}  # events are younger than 1970; a work need not be
DEFAULT_TIME_RANGE_S = (YEAR_1800_S, YEAR_2100_S)

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")  # no exponent: 1.46E+09 is a time that a spreadsheet has rounded
_YEAR = re.compile(r"[0-9]{4}")
_NOT_FINITE = {"nan", "inf", "infinity"}
_ISO = isoparser(sep="T")


class CellError(ValueError):
    """A cell that is not of its column's kind: `reason` is the reject's code, the message its detail."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def convert(value: Any, column: Column, table: TableConfig, time_unit: TimeUnit) -> Any | None:
    """The typed value of a cell, None where the cell says nothing.

    value: text from CSV; text, number, list, date or None from JSONL and Parquet.
    Raises CellError naming the column, the value and the expectation.
    """
    if is_empty(value, table):
        return None
    try:
        return _CONVERTERS[column.kind](value, column, table, time_unit)
    except CellError as error:
        raise CellError(error.reason, f"{column.name}: {error}") from None


def is_empty(value: Any, table: TableConfig) -> bool:
    """Whether a cell says nothing: null, blank, or one of the table's `empty_values`."""
    if isinstance(value, str):
        return not value.strip() or value.strip() in table.empty_values
    return value is None


def time_unit_of(values: Iterable[Any]) -> TimeUnit:
    """The unit of a table's times by majority of its first non-empty values; "unknown" where there are none or they do not say it."""
    units = [_unit(value) for value in values]
    return max(("s", "ms", "iso", "unknown"), key=units.count) if units else "unknown"  # type: ignore[return-value]


def _unit(value: Any) -> TimeUnit:
    if isinstance(value, date):
        return "iso"
    text = str(value).strip()
    if _YEAR.fullmatch(text) or not _NUMBER.fullmatch(text):
        return "iso"
    if abs(float(text)) >= SECONDS_BELOW:
        return "ms"
    return "s" if abs(float(text)) >= SECONDS_FROM else "unknown"


def _text(value: Any, *_: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # exact: an integer has one decimal form
    if not isinstance(value, str):
        raise CellError("bad_text", f"got {_show(value)}, expected text or an integer")
    if any("\ud800" <= character <= "\udfff" for character in ([] if value.isascii() else value)):
        raise CellError("bad_encoding", f"{_show(value)} is not valid Unicode")
    return value


def _id(value: Any, *_: Any) -> str:
    try:
        return _text(value)
    except CellError as error:
        if error.reason == "bad_encoding":
            raise
        raise CellError(
            "bad_id", f"got {_show(value)}, expected text or an integer; a {type(value).__name__} has no one spelling"
        ) from None


def _category(value: Any, *_: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else _text(value).strip()


def _list(value: Any, column: Column, table: TableConfig, *_: Any) -> list[str] | None:
    parts = value.split(table.list_separator) if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise CellError("bad_list", f"got {_show(value)}, expected a list of texts")
    return [_text(part).strip() for part in parts if not is_empty(part, table)] or None


def _number(value: Any, *_: Any) -> float:
    number: Any = value
    if isinstance(value, str):
        text = value.strip()
        if text.lstrip("+-").lower() not in _NOT_FINITE and not _NUMBER.fullmatch(text):
            raise CellError("bad_number", f"got {_show(value)}, expected a number such as 3.5")
        number = float(text)
    if isinstance(value, Decimal):
        number = float(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise CellError("bad_number", f"got {_show(value)}, expected a number")
    if not abs(number) <= FLOAT32_MAX:
        raise CellError("non_finite", f"got {_show(value)}, expected a finite number that fits float32")
    return float(number)


def _embedding(value: Any, column: Column, *_: Any) -> list[float]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split()
        except ValueError:
            raise CellError(
                "bad_embedding", f"got {_show(value)}, expected a JSON array or numbers with spaces between"
            ) from None
    if not isinstance(value, list):
        raise CellError("bad_embedding", f"got {_show(value)}, expected a list of numbers")
    if len(value) != column.dim:
        raise CellError("bad_embedding", f"got {len(value)} numbers, expected {column.dim}")
    return [_number(element) for element in value]


def _time(value: Any, column: Column, table: TableConfig, unit: TimeUnit) -> int:
    """Whole seconds, rounded down; a time without a zone is UTC."""
    if isinstance(value, date):
        seconds = _seconds(value)
    else:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise CellError("bad_time", f"got {_show(value)}, expected a time")
        text = value.strip() if isinstance(value, str) else repr(value)
        if table.timestamp_unit == "auto" and _unit(value) != unit:
            raise CellError("mixed_time_unit", f"got {_show(value)}, expected {_EXPECTED[unit]}")
        seconds = _iso_seconds(text) if unit == "iso" else _plain_seconds(value, text, unit)
    low, high = TIME_RANGES_S.get(column.name, DEFAULT_TIME_RANGE_S)
    if not low <= seconds < high:
        raise CellError(
            "bad_time", f"got {_show(value)}, expected a time between {_year(low)} and {_year(high)} (unit {unit})"
        )
    return seconds


_EXPECTED = {
    "s": "seconds since 1970, as in the table's first rows",
    "ms": "milliseconds since 1970, as in the table's first rows",
    "iso": "an ISO-8601 time, as in the table's first rows",
    "unknown": "a time whose unit the table's first rows show; state it with timestamp_unit",
}


def _iso_seconds(text: str) -> int:
    try:
        return _seconds(_ISO.isoparse(text.replace(" ", "T", 1)))
    except ValueError:
        raise CellError("bad_time", f"got {text!r}, expected an ISO-8601 time such as 2024-05-31T18:00:00Z") from None


def _plain_seconds(value: Any, text: str, unit: TimeUnit) -> int:
    if isinstance(value, float) and not math.isfinite(value):
        raise CellError("non_finite", f"got {value!r}, expected a time")
    if not isinstance(value, float) and not _PLAIN_NUMBER.fullmatch(text):
        raise CellError("bad_time", f"got {text!r}, expected {unit} since 1970 as a plain number")
    number = Decimal(text)
    return math.floor(number / 1000 if unit == "ms" else number)


def _seconds(moment: date) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return math.floor(aware.timestamp())


def _year(seconds: int) -> int:
    return 1970 + round(seconds / 31_556_952)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_CONVERTERS: dict[Kind, Callable[..., Any]] = {
    "id": _id,
    "text": _text,
    "category": _category,
    "list": _list,
    "number": _number,
    "embedding": _embedding,
    "time": _time,
}
