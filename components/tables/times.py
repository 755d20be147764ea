"""Converts times to whole seconds since 1970 (UTC, rounded down): their unit, their written forms, their plausible
span.

Nothing is guessed: what could be read in two ways is refused, in words that say what would be read.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from dateutil.parser import isoparser

from components.config import TableConfig
from components.tables.raw import Instant

TimeUnit = Literal["s", "ms", "us", "ns", "iso", "unknown"]

UNIT_FACTORS: Mapping[TimeUnit, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
SMALLEST_CLEAR_NUMBER = 10**8  # below, a number without a stated unit could be a year, a day number or a counter
# Each covers the years 1973 to 5138.
UNITS_FROM: tuple[tuple[int, TimeUnit], ...] = (
    (10**17, "ns"),
    (10**14, "us"),
    (10**11, "ms"),
    (SMALLEST_CLEAR_NUMBER, "s"),
)

YEAR_1000_S, YEAR_1800_S, YEAR_1990_S, YEAR_2100_S = -30_610_224_000, -5_364_662_400, 631_152_000, 4_102_444_800
DAY_S = 86_400
MAX_DIGITS = 28  # of a time as a number: what decimal arithmetic takes exactly

_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")  # no exponent: 1.46E+09 is a time that a spreadsheet has rounded
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_YEAR = re.compile(r"[0-9]{4}")
_NO_DATE = re.compile(r"0000(-00-00([T ][0:.]*)?)?Z?|[+-]?0+(\.0*)?")  # how databases write that there is none

_ZONE_NAME = re.compile(r"(Z|[+-][0-9]{2}:?(?:[0-9]{2})?)\[[\w/+-]+\]")  # Java: the name after an exact offset
_ZONE = re.compile(r"\s*(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)", re.IGNORECASE)
_CLOCK = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.:][0-9]+)?)?\s*(?P<half>[AP]M)?"
_CLOCK_AND_ZONE = rf"{_CLOCK}(?P<zone>{_ZONE.pattern})?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})[a-z]*"
_NAMED_MONTH_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # Mon Jan 01 12:00:00 UTC 2024 (Java, C), Mon Jan  1 12:00:00 2024 (Python)
        rf"[a-z]{{3}} {_MONTH}\s+(?P<day>[0-9]{{1,2}}) {_CLOCK}(?P<zone>\s+(UTC|GMT|Z))? (?P<year>[0-9]{{4}})",
        # Mon, 01 Jan 2024 12:00:00 +0000 (mail, HTTP), 01-Jan-2024 12:00:00
        rf"([a-z]{{3}},\s+)?(?P<day>[0-9]{{1,2}})[ -]{_MONTH}[ -](?P<year>[0-9]{{4}})( {_CLOCK_AND_ZONE})?",
        # Jan  1 2024 12:00PM (SQL Server), January 1, 2024
        rf"{_MONTH}\s+(?P<day>[0-9]{{1,2}}),?\s+(?P<year>[0-9]{{4}})(,? {_CLOCK_AND_ZONE})?",
    )
)
_ISO = isoparser(sep="T")


class TimeError(ValueError):
    """Not a time: `reason` is the code of the reject."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class TimeSpan(NamedTuple):
    """Plausible times of a column: first <= time < end, seconds since 1970."""

    first: int
    end: int


# No setting reaches beyond these: what the curated schema accepts, and what the models can take for a time.
WIDEST_SPANS = {"timestamp": TimeSpan(0, YEAR_2100_S)}
WIDEST_SPAN = TimeSpan(YEAR_1000_S, YEAR_2100_S)


def plausible_span(column: str, table: TableConfig, now_s: float | None = None) -> TimeSpan:
    """The span of a column's times: the table's `earliest_time` and `latest_time`, by default 1990 to a day from now
    for the timestamps of events, 1800 to 2100 for the appearance of works."""
    is_event = column == "timestamp"
    first = YEAR_1990_S if is_event else YEAR_1800_S
    end = int(time.time() if now_s is None else now_s) + DAY_S if is_event else YEAR_2100_S
    if table.earliest_time:
        first = _day(table.earliest_time)
    if table.latest_time:
        end = _day(table.latest_time) + DAY_S
    widest = WIDEST_SPANS.get(column, WIDEST_SPAN)
    return TimeSpan(max(first, widest.first), min(end, widest.end))


def _day(text: str) -> int:
    return _seconds(datetime.fromisoformat(text))


def says_no_date(value: Any) -> bool:
    """Whether a cell is a database's word for "no date": 0, 0000, 0000-00-00."""
    return not isinstance(value, (bool, Instant, date)) and bool(_NO_DATE.fullmatch(str(value).strip()))


def unit_of_times(values: Iterable[Any]) -> TimeUnit:
    """The unit of most of a table's first times; "unknown" where there are none or they do not say it."""
    units = [unit_of(value) for value in values if not says_no_date(value)]
    order: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns", "iso", "unknown")
    return max(order, key=units.count) if units else "unknown"


def unit_of(value: Any) -> TimeUnit:
    """The unit that one cell shows by its size, or "iso" for what is no plain number."""
    if isinstance(value, (Instant, date)):
        return "iso"
    text = str(value).strip()
    if _YEAR.fullmatch(text) or not _NUMBER.fullmatch(text):
        return "iso"
    size = abs(float(text))
    return next((unit for least, unit in UNITS_FROM if size >= least), "unknown")


def seconds_of(value: Any, unit: TimeUnit, span: TimeSpan) -> int:
    """A cell as seconds since 1970, rounded down; without a zone it is UTC.

    Raises TimeError: bad_time, non_finite.
    """
    if isinstance(value, Instant):
        seconds = value.seconds
    elif isinstance(value, date):
        seconds = _seconds(value)
    elif isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise TimeError("bad_time", f"got {value!r:.80}, expected a time")
    elif unit == "iso":
        seconds = _written_seconds(value.strip() if isinstance(value, str) else str(value))
    else:
        seconds = _counted_seconds(value, unit)
    if not span.first <= seconds < span.end:
        raise TimeError("bad_time", _outside(value, seconds, unit, span))
    return seconds


def _outside(value: Any, seconds: int, unit: TimeUnit, span: TimeSpan) -> str:
    shown = f"{value!r:.80}"
    meaning = "" if isinstance(value, (Instant, date)) else f", {_when(seconds)} as {unit}"
    expected = f"expected a time from {_when(span.first)} to {_when(span.end - 1)} (earliest_time, latest_time)"
    seen = unit_of(value)
    hint = f"; as {seen} it would be {_when(_counted_seconds(value, seen))}" if _is_other_unit(seen, unit) else ""
    return f"got {shown if meaning else _when(seconds)}{meaning}, {expected}{hint}"


def _is_other_unit(seen: TimeUnit, unit: TimeUnit) -> bool:
    return seen in UNIT_FACTORS and unit in UNIT_FACTORS and seen != unit


def _when(seconds: float) -> str:
    try:
        return f"{datetime(1970, 1, 1) + timedelta(seconds=seconds):%Y-%m-%d %H:%M}"
    except OverflowError:
        return "a time beyond all calendars"


def _counted_seconds(value: Any, unit: TimeUnit) -> int:
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        raise TimeError("non_finite", f"got {value!r}, expected a time")
    text = value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(text):
        raise TimeError("bad_time", f"got {text!r:.80}, expected {unit} since 1970 as a plain number")
    if len(text) > MAX_DIGITS:
        raise TimeError("bad_time", f"got {text:.40}…, expected {unit} since 1970")
    return math.floor(Decimal(text) / UNIT_FACTORS[unit])


def _written_seconds(text: str) -> int:
    try:
        return _seconds(_ISO.isoparse(_as_iso(text)))
    except (ValueError, OverflowError):
        pass
    for form in _NAMED_MONTH_FORMS:
        if match := form.fullmatch(text):
            return _named_month_seconds(text, match)
    raise TimeError("bad_time", f"got {text!r:.80}, expected {_expected_instead(text)}")


def _as_iso(text: str) -> str:
    """The forms of databases as ISO-8601: a blank for the T, blanks before the zone, UTC for Z, Java's zone name."""
    text = _ZONE_NAME.sub(r"\1", text, count=1) if "[" in text else text
    if len(text) > 10 and text[10] in " t":
        text = f"{text[:10]}T{text[11:].lstrip()}"
    elif len(text) > 8 and text[8] == " " and text[:8].isdigit():
        text = f"{text[:8]}T{text[9:].lstrip()}"
    clock, zone = text, ""
    if (found := _ZONE.search(text, 11 if text[4:5] == "-" else 9)) and found.end() == len(text):
        clock, zone = text[: found.start()], found[1].upper()
        zone = "Z" if zone in ("UTC", "GMT") else zone
    return clock + zone


def _named_month_seconds(text: str, match: re.Match[str]) -> int:
    part = match.groupdict()
    hour = int(part["hour"] or 0)
    if part["half"]:
        hour = hour % 12 + (12 if part["half"].upper() == "PM" else 0)
    month = _MONTHS.index(part["month"].lower()) + 1
    zone = (part["zone"] or "Z").strip().upper()
    day = f"{part['year']}-{month:02d}-{int(part['day']):02d}"
    clock = f"{hour:02d}:{part['minute'] or '00'}:{part['second'] or '00'}"
    try:
        return _seconds(_ISO.isoparse(f"{day}T{clock}" + ("Z" if zone in ("UTC", "GMT") else zone)))
    except (ValueError, OverflowError):
        raise TimeError("bad_time", f"got {text!r:.80}, which is no day of the calendar or no time of day") from None


def _expected_instead(text: str) -> str:
    iso = "an ISO-8601 time such as 2024-05-31T18:00:00Z or 2024-05-31 18:00:00+02"
    if re.match(r"[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{2,4}", text):
        return f"{iso}: here day and month could be exchanged"
    if re.search(r"[ 0-9:](?!AM|PM|UTC|GMT)[A-Z][A-Za-z]+(/[A-Za-z_]+)*\]?( [0-9]{4})?$", text):
        return f"{iso}: the name of a zone is no one offset; write the offset"
    return iso


def _seconds(moment: date) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return math.floor(aware.timestamp())
