"""Times: as other systems write them, in the unit that they are stated in, and within what is plausible."""

from datetime import datetime, timezone

import pytest

from components.config import TableConfig
from components.contract import EVENTS
from components.tables import inspection
from components.tables.raw import TableError
from components.tables.times import TimeError, TimeSpan, plausible_span, seconds_of, unit_of_times
from tests.components.tables.reading import NOW_S, faults, notes, read, write

NOON_S = int(datetime(2024, 1, 1, 12, tzinfo=timezone.utc).timestamp())
ALWAYS = TimeSpan(-30_000_000_000, 30_000_000_000)

READ_AS_NOON = {
    "BigQuery": ["2024-01-01 12:00:00 UTC", "2024-01-01 12:00:00.123456 UTC", "2024-01-01 12:00:00+00"],
    "Postgres": ["2024-01-01 12:00:00+00", "2024-01-01 17:30:00.5+05:30", "2024-01-01 04:00:00-08"],
    "Spark": ["2024-01-01T12:00:00.000Z", "2024-01-01T12:00:00.000+00:00", "2024-01-01T13:00:00.000+0100"],
    "Snowflake": ["2024-01-01 12:00:00.000 Z", "2024-01-01 04:00:00.000 -0800", "2024-01-01 12:00:00.123456789"],
    "SQL Server": ["2024-01-01 12:00:00.0000000", "2024-01-01 13:00:00.0000000 +01:00", "Jan  1 2024 12:00PM"]
    + ["20240101 12:00:00", "Jan  1 2024 12:00:00:000PM"],
    "Java": ["Mon Jan 01 12:00:00 UTC 2024", "2024-01-01T12:00:00Z[UTC]", "2024-01-01T13:00+01:00[Europe/Paris]"]
    + ["2024-01-01T12:00:00Z", "2024-01-01T12:00"],
    "Python": ["2024-01-01 12:00:00", "2024-01-01 12:00:00.000001+00:00", "Mon Jan  1 12:00:00 2024"],
    "mail and HTTP": ["Mon, 01 Jan 2024 12:00:00 +0000", "Mon, 01 Jan 2024 12:00:00 GMT", "1 Jan 2024 12:00"],
    "Excel as text": ["01-Jan-2024 12:00:00", "2024-01-01 12:00"],
    "rows of JavaScript": ["2024-01-01T12:00:00.000Z"],
}


@pytest.mark.parametrize("text", [text for texts in READ_AS_NOON.values() for text in texts])
def test_the_forms_of_other_systems_are_read_exactly(text):
    """D06."""
    assert unit_of_times([text]) == "iso" and seconds_of(text, "iso", ALWAYS) == NOON_S


@pytest.mark.parametrize(
    "text, told",
    [
        ("01/02/2024", "day and month could be exchanged"),
        ("1.2.2024 12:00", "day and month could be exchanged"),
        ("12-31-2024", "day and month could be exchanged"),
        ("Mon Jan 01 12:00:00 CET 2024", "zone is no one offset"),
        ("2024-01-01 12:00:00 Europe/Paris", "zone is no one offset"),
        ("2024-01-01 12:00:00 PST", "zone is no one offset"),
        ("infinity", "ISO-8601"),
        ("2024-02-30 12:00:00", "ISO-8601"),
        ("Feb 30 2024 12:00PM", "no day of the calendar"),
        ("10:30", "ISO-8601"),
        ("yesterday", "ISO-8601"),
        ("2024-01-01T12:00:00Z trailing", "ISO-8601"),
        ("9999-12-31T24:00", "ISO-8601"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_in_words(text, told):
    """D06."""
    with pytest.raises(TimeError, match=told) as caught:
        seconds_of(text, "iso", ALWAYS)
    assert caught.value.reason == "bad_time"


@pytest.mark.parametrize("cell", ["45292.5", "20240101"])
def test_a_small_number_is_no_time_until_its_unit_is_stated(tmp_path, cell):
    """D06: the days of a spreadsheet, a date without dashes: as a whole table, and in one row."""
    path = write(tmp_path / "events.csv", f"user_id,item_id,timestamp\nu,a,{cell}\n")
    with pytest.raises(TableError, match="does not say its unit; state timestamp_unit"):
        read(path, EVENTS)
    rows, rejects = read(write(path, f"user_id,item_id,timestamp\nu,a,{cell}\n" + f"u,b,{NOON_S}\n" * 2), EVENTS)
    assert len(rows) == 2 and faults(rejects) == [(2, "mixed_time_unit")]
    assert "day of a spreadsheet" in rejects[0]["detail"]


@pytest.mark.parametrize("cell", ["20240101", "45292", NOON_S])
def test_a_time_after_first_rows_that_have_none_is_a_reject(tmp_path, monkeypatch, cell):
    """Nothing shows its unit, however plain it looks."""
    monkeypatch.setattr(inspection, "PEEKED_ROWS_FOR_TIME", 3)
    path = write(tmp_path / "events.csv", "user_id,item_id,timestamp\n" + "u,a,\n" * 3 + f"u,b,{cell}\n")
    rows, rejects = read(path, EVENTS)
    assert len(rows) == 3 and faults(rejects) == [(5, "mixed_time_unit")]
    assert "state it with timestamp_unit" in rejects[0]["detail"]


UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_detected_and_can_be_stated(tmp_path, unit):
    """D04."""
    lines = "".join(f"u,{n},{(NOON_S + n) * UNITS[unit] + UNITS[unit] // 2}\n" for n in range(3))
    path = write(tmp_path / "events.csv", "user_id,item_id,timestamp\n" + lines)
    for stated in ("auto", unit):
        rows, rejects = read(path, EVENTS, timestamp_unit=stated)
        assert [row.values["timestamp"] for row in rows] == [NOON_S, NOON_S + 1, NOON_S + 2] and not rejects
        assert notes(path, EVENTS, timestamp_unit=stated)["timestamp_unit"] == unit


@pytest.mark.parametrize("stated", UNITS)
@pytest.mark.parametrize("meant", UNITS)
def test_a_stated_unit_that_is_not_meant_is_a_reject_with_both_readings(tmp_path, stated, meant):
    """D04: seconds read as milliseconds are January 1970, and nobody is sent there."""
    path = write(tmp_path / "events.csv", f"user_id,item_id,timestamp\nu,a,{NOON_S * UNITS[meant]}\n")
    rows, rejects = read(path, EVENTS, timestamp_unit=stated)
    if stated == meant:
        assert [row.values["timestamp"] for row in rows] == [NOON_S] and not rejects
    else:
        assert not rows and faults(rejects) == [(2, "bad_time")]
        assert f"as {stated}" in rejects[0]["detail"] and f"as {meant} it would be 2024-01-01" in rejects[0]["detail"]


@pytest.mark.parametrize(
    "cells",
    [
        ["2099-05-01", "1970-01-01", "1969-12-31", "1989-12-31", "9999-12-31", "0001-01-01"],
        ["4081363200", "946684", "631151999", "-5", "0"],
        ["4081363200000", "631151999000"],
    ],
)
def test_one_bogus_date_is_a_reject_with_its_line(tmp_path, cells):
    """D05: among good events, in any form; the good ones are as without it."""
    unit = unit_of_times(cells[:1])
    good = {"iso": "2024-01-01T12:00:00Z", "s": NOON_S, "ms": NOON_S * 1000}[unit]
    lines = [f"u,good,{good}"] * 20 + [f"u,{n},{cell}" for n, cell in enumerate(cells)]
    rows, rejects = read(
        write(tmp_path / "events.csv", "user_id,item_id,timestamp\n" + "\n".join(lines)), EVENTS, now_s=NOW_S
    )
    assert [row.values["timestamp"] for row in rows] == [NOON_S] * 20
    assert [reject["line"] for reject in rejects] == list(range(22, 22 + len(cells)))
    assert {reject["reason"] for reject in rejects} <= {"bad_time", "mixed_time_unit"}


def test_the_span_of_events_ends_a_day_from_now(tmp_path):
    """D05: clocks differ by hours, not by days."""
    lines = "".join(f"u,{n},{NOW_S + hours * 3600}\n" for n, hours in enumerate((0, 23, 25)))
    rows, rejects = read(write(tmp_path / "events.csv", "user_id,item_id,timestamp\n" + lines), EVENTS)
    assert len(rows) == 2 and faults(rejects) == [(4, "bad_time")]


def test_the_plausible_span_can_be_stated(tmp_path):
    """D04: for old data, and for what is known to begin late."""
    path = write(tmp_path / "events.csv", "user_id,item_id,timestamp\nu,a,1975-06-01\nu,b,2020-06-01\nu,c,2024-01-01\n")
    rows, rejects = read(path, EVENTS, earliest_time="1970-01-01", latest_time="2020-06-01")
    assert [row.values["item_id"] for row in rows] == ["a", "b"] and faults(rejects) == [(4, "bad_time")]
    with pytest.raises(ValueError, match="earliest_time: got 'soon', expected a date"):
        TableConfig("x", earliest_time="soon")
    widest = TableConfig("x", earliest_time="0001-01-01", latest_time="9999-01-01")
    assert plausible_span("timestamp", widest, NOW_S) == (0, 4_102_444_800), "no wider than the curated schema"


def test_a_work_may_be_older_than_any_event_and_may_come_later(tmp_path):
    """D05: announced works and old ones are works."""
    rows, rejects = read(write(tmp_path / "items.csv", "item_id,published_at\na,1810\nb,2030-01-01\nc,1700-01-01\n"))
    assert [row.values["item_id"] for row in rows] == ["a", "b"] and faults(rejects) == [(4, "bad_time")]


@pytest.mark.parametrize("cell", ["0", "0000", "0000-00-00", "0000-00-00 00:00:00"])
def test_a_word_of_databases_for_no_date_is_absent_from_a_work(tmp_path, cell):
    """D09: also where most of the first rows have it."""
    path = write(tmp_path / "items.csv", "item_id,published_at\n" + f"a{cell},{cell}\n" * 200 + "b,1995\n")
    rows, rejects = read(path)
    assert not rejects and [row.values.get("published_at") for row in rows] == [None] * 200 + [788_918_400]
    assert rows[0].notes == (f"published_at: {cell!r}, read as absent",)
