"""One cell, one typed value, or a reject with a reason."""

import math
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest

from components.config import TableConfig
from components.contract import Column
from components.tables.times import TimeSpan, unit_of_times
from components.tables.values import CellError, ReadingRules, convert

TABLE = TableConfig("unused", empty_values=("(no genres listed)", "NULL"))


SPANS = {name: TimeSpan(-5_364_662_400, 4_102_444_800) for name in ("column", "published_at")}
SPANS["timestamp"] = TimeSpan(631_152_000, 1_800_000_000)


def value_of(kind, cell, unit="s", name="column", dim=0, table=TABLE):
    return convert(cell, Column(name, kind, dim=dim), ReadingRules(table, unit, SPANS)).value


def reason_of(kind, cell, unit="s", name="column", dim=0):
    with pytest.raises(CellError) as caught:
        value_of(kind, cell, unit, name, dim)
    assert name in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("cell", ["007", "7", "0042", "12345678901234567890", "1e3", "é"])
def test_a_text_id_stays_as_it_is(cell):
    """C02."""
    assert value_of("id", cell) == cell


@pytest.mark.parametrize(
    "cell, text",
    [
        (7, "7"),
        (-3, "-3"),
        (12345678901234567890, "12345678901234567890"),
        (Decimal(10**37), "1" + "0" * 37),
    ],
)
def test_an_integer_id_becomes_its_exact_decimal_text(cell, text):
    """C02."""
    assert value_of("id", cell) == text


@pytest.mark.parametrize("cell", [7.0, 1e20, True, [1], {"a": 1}, Decimal("7.0"), "two\nlines", "nul\0"])
def test_an_id_without_one_spelling_is_refused(cell):
    assert reason_of("id", cell) == "bad_id"


@pytest.mark.parametrize("cell", ["film\nnoir", "film\rnoir", "film\0noir"])
def test_a_category_is_a_word_of_one_line(cell):
    assert reason_of("category", cell) == "bad_text"
    assert value_of("category", f" {cell[:4]}\r\n") == "film"
    assert value_of("text", cell) == cell


@pytest.mark.parametrize("kind", ["id", "text", "list", "number", "category", "time", "embedding"])
@pytest.mark.parametrize("cell", [None, "", "  ", "NULL", " (no genres listed) "])
def test_a_cell_that_says_nothing_is_absent(kind, cell):
    """C06."""
    assert value_of(kind, cell, dim=2) is None


@pytest.mark.parametrize(
    "cell", ["Drama|War", " Drama | War ", ["Drama", "War"], "Drama||War", ["Drama", None, "", "War"]]
)
def test_lists(cell):
    """C06."""
    assert value_of("list", cell) == ["Drama", "War"]


def test_a_list_of_placeholders_is_absent():
    """C06."""
    assert value_of("list", ["(no genres listed)"]) is None
    assert reason_of("list", 3) == "bad_list"


@pytest.mark.parametrize(
    "cell, number", [("3.5", 3.5), ("-2", -2.0), (" 1e3 ", 1000.0), (4, 4.0), (Decimal("0.5"), 0.5), (".5", 0.5)]
)
def test_numbers(cell, number):
    assert value_of("number", cell) == number


@pytest.mark.parametrize("cell", ["five", "3,5", "1_000", "0x10", "٣", True, [1.0], "1 2"])
def test_what_is_not_plainly_a_number_is_refused(cell):
    assert reason_of("number", cell) == "bad_number"


@pytest.mark.parametrize("cell", ["-inf", "Infinity", math.inf, "1e999", 1e39, 10**400, Decimal("Infinity")])
def test_numbers_are_finite_in_float32(cell):
    assert reason_of("number", cell) == "non_finite"


@pytest.mark.parametrize("cell", ["[1, 2.5]", "1 2.5", [1, 2.5], " 1   2.5 "])
def test_embeddings(cell):
    assert value_of("embedding", cell, dim=2) == [1.0, 2.5]


@pytest.mark.parametrize(
    "cell, reason",
    [
        ([1.0], "bad_embedding"),
        ("1 2 3", "bad_embedding"),
        ("[1,", "bad_embedding"),
        (3, "bad_embedding"),
        ([], "bad_embedding"),
    ]
    + [([1.0, math.nan], "non_finite"), ("1 inf", "non_finite"), ("1 x", "bad_number"), ([1.0, None], "bad_number")],
)
def test_embeddings_have_their_dimension_and_are_finite(cell, reason):
    assert reason_of("embedding", cell, dim=2) == reason


NOON_S = 1_704_110_400  # 2024-01-01 12:00 UTC


@pytest.mark.parametrize(
    "cell, unit",
    [
        (NOON_S, "s"),
        (str(NOON_S), "s"),
        (f"{NOON_S}.75", "s"),
        (NOON_S + 0.75, "s"),
        (NOON_S * 1000 + 999, "ms"),
        (f"{NOON_S}999", "ms"),
    ]
    + [
        ("2024-01-01T12:00:00Z", "iso"),
        ("2024-01-01 12:00:00", "iso"),
        ("2024-01-01T13:00:00.5+01:00", "iso"),
        ("20240101T1200", "iso"),
    ]
    + [(datetime(2024, 1, 1, 12), "iso"), (datetime(2024, 1, 1, 12, tzinfo=timezone.utc), "s")],
)
def test_times_are_whole_seconds_since_1970_in_utc(cell, unit):
    assert value_of("time", cell, unit) == NOON_S


def test_a_date_and_a_year_are_their_first_second():
    assert (
        value_of("time", date(2024, 1, 1), "iso")
        == value_of("time", "2024", "iso")
        == value_of("time", 2024, "iso")
        == NOON_S - 43_200
    )
    assert value_of("time", "1959", "iso") == -347_155_200


@pytest.mark.parametrize(
    "cell, unit",
    [(NOON_S, "ms"), (NOON_S * 1000, "s"), ("2024-01-01", "s"), (str(NOON_S), "iso"), (NOON_S, "unknown")]
    + [("20240101", "unknown"), (45292, "unknown"), (45292.5, "unknown")],
)
def test_a_time_in_another_unit_than_the_table_s_is_refused(cell, unit):
    assert reason_of("time", cell, unit) == "mixed_time_unit"


@pytest.mark.parametrize(
    "cell, unit",
    [
        ("soon", "iso"),
        ("2024-13-01", "iso"),
        ("1.46E+09", "s"),
        (True, "s"),
        (NOON_S * 1_000_000, "ms"),
        ("1700", "iso"),
    ],
)
def test_impossible_times_are_refused(cell, unit):
    assert reason_of("time", cell, unit) in ("bad_time", "mixed_time_unit")


def test_an_event_is_younger_than_1970_and_a_work_need_not_be():
    assert value_of("time", "1959-01-01", "iso", name="published_at") < 0
    assert reason_of("time", "1959-01-01", "iso", name="timestamp") == "bad_time"


@pytest.mark.parametrize(
    "cells, unit",
    [
        ([NOON_S, str(NOON_S)], "s"),
        ([NOON_S * 1000], "ms"),
        (["2024-01-01", "1995"], "iso"),
        ([1, 2, 3], "unknown"),
        ([], "unknown"),
    ]
    + [([NOON_S, NOON_S, "2024-01-01"], "s")],
)
def test_the_unit_is_that_of_most_of_the_first_values(cells, unit):
    assert unit_of_times(cells) == unit


def test_lone_surrogates_do_not_pass_as_text():
    assert reason_of("text", "\ud83d") == "bad_encoding"
    assert reason_of("id", "caf\udce9") == "bad_encoding"
