"""Rows read many at a time are the rows read one by one: values, rejects, notes and numbers, whatever the damage."""

import gzip
import json
import random
from collections import Counter
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import table_damage
from components.config import TableConfig
from components.contract import CATALOGUE, EVENTS
from components.examples import SOURCE_FILE, SOURCE_LINE
from components.tables import formats
from components.tables.columns import wanted_names
from components.tables.inspection import TableFacts
from components.tables.raw import TableError
from components.tables.readers import Row, read_blocks, read_rows
from components.tables.times import plausible_span
from components.tables.values import ReadingRules
from tests.components.tables.reading import NOW_S, write

IDS = [
    *("7", "007", "u", "Öl", " a ", "a b", "e\u0301", "", "nan", "NULL", "-", "-1"),
    *("\ufeffx", "\ufeff", "\ufeff 7", "ﬁ", "a\u00a0", "٣"),
]
TIMES = {
    "s": ["1700000000", "1700000001", "01700000002", "+1700000003", "1700000004.9", "99999999", "0", "1.7e9", "-5"],
    "ms": ["1700000000123", "1700000000999.5", "1700000000", "999999999999999999999"],
    "us": ["1700000000123456", "99999999999999999"],
    "ns": ["1700000000123456789", "99999999999999999", "100000000000000000"],
    "iso": [
        *("2024-05-31T18:00:00Z", "2024-05-31 18:00:00", "2024-05-31 18:00:00.5+00:00", "2024-02-30 00:00:00"),
        *("2024-05-31", "2024-05-31 24:00:00", "2024-05-31 18:00:60", "2024-05-31T18:00:00+02:00", "0000-00-00"),
        *("2024-05-31 18:00:00.1234567", "1969-12-31 23:59:59.5", "Fri, 31 May 2024 18:00:00 +0000", "20240531"),
        *("2023-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "9999-12-31 00:00:00", "2024-13-01 00:00:00", "01/02/2024"),
    ],
}
ODD_TIMES = ["", "-1", "nan", "soon", "٣", " 1700000000 ", "1700000000\u00a0"]
NUMBERS = ["1", "2.5", "0", "-0.0", "1e39", "nan", "NaN", "inf", "", "x", " 3 ", "-1", "1e-50", "٣"]
KINDS = ["play", "like", "", "PLAY", " play", "null", "rating", "Öl", "e\u0301", "two\nlines", "two\rlines", "play\n"]


@st.composite
def events(draw, unit):
    """Rows of text cells for the columns of EVENTS, mostly plain."""
    plain = {
        "user_id": st.sampled_from("uvw") | st.sampled_from(IDS),
        "item_id": st.sampled_from("ab") | st.sampled_from(IDS),
        "timestamp": st.sampled_from(TIMES[unit]) | st.sampled_from(TIMES[unit][:2]) | st.sampled_from(ODD_TIMES),
        "event": st.sampled_from(KINDS),
        "value": st.sampled_from(NUMBERS),
        "split": st.sampled_from(["", "train", "test"]),
    }
    return draw(st.lists(st.fixed_dictionaries(plain), min_size=1, max_size=30))


def facts_of(path, columns=EVENTS, unit="unknown", **table):
    """What the look at a table would find, where it has the columns and its times have this unit."""
    config = TableConfig(str(path), **table)
    spans = {column.name: plausible_span(column.name, config, NOW_S) for column in columns if column.kind == "time"}
    names = {str(path): wanted_names((), config, columns)}
    return TableFacts((str(path),), ReadingRules(config, unit, spans), names)


def one_by_one(path, columns, facts):
    """(places and values, rejects, notes, number of rows), or what the table as a whole is refused with."""
    try:
        found = list(read_rows(str(path), columns, facts))
    except TableError as error:
        return str(error).partition(" after line ")[0]
    rows = [row for row in found if isinstance(row, Row)]
    rejects = [repr(row) for row in found if not isinstance(row, Row)]
    notes = Counter(note for row in rows for note in row.notes)
    return sorted((row.source, row.line, repr(row.values)) for row in rows), sorted(rejects), notes, len(found)


def in_blocks(path, columns, facts):
    """The same of `read_blocks`."""
    try:
        blocks = list(read_blocks(str(path), columns, facts))
    except TableError as error:
        return str(error).partition(" after line ")[0]
    values = []
    for row in (row for block in blocks for row in block.rows.to_pylist()):
        place = row.pop(SOURCE_FILE), row.pop(SOURCE_LINE)
        values.append((*place, repr({name: value for name, value in row.items() if value is not None})))
    rejects = [repr(reject) for block in blocks for reject in block.rejects]
    notes = sum((block.notes for block in blocks), Counter())
    return sorted(values), sorted(rejects), notes, sum(block.num_rows for block in blocks)


def check(name, content, block_rows, columns=EVENTS, **facts):
    """Both ways of a file agree; what they give. block_rows: small, so that blocks end everywhere."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "BLOCK_ROWS", block_rows)
        path = write(Path(folder, name), gzip.compress(content) if name.endswith(".gz") else content)
        found = facts_of(path, columns, **facts)
        expected = one_by_one(path, columns, found)
        assert in_blocks(path, columns, found) == expected
    return expected


EMPTY = st.sampled_from([(), ("-1",), ("NAN", "u"), ("1700000000",), ("0", "play")])
BLOCK_ROWS = st.sampled_from([1, 3, 1000])
SETTINGS = settings(deadline=None, max_examples=100)


@given(st.data())
@SETTINGS
def test_damaged_csv(data):
    """Of every unit, with quotes or none, with separators of one character and of two."""
    unit = data.draw(st.sampled_from(sorted(TIMES)))
    separator = data.draw(st.sampled_from([",", "\t", "::", "§", " "]))
    rows = data.draw(events(unit))
    line_end = data.draw(st.sampled_from(["\n", "\r\n"]))
    quoted = data.draw(st.sampled_from([lambda cell: cell, lambda cell: f'"{cell}"' if len(cell) > 5 else cell]))
    header = separator.join(rows[0])
    lines = [header, *(separator.join(map(quoted, row.values())) for row in rows)]
    content = line_end.join(lines).encode() + data.draw(st.sampled_from([b"", line_end.encode()]))
    rng = random.Random(data.draw(st.integers(0, 999)))
    for _ in range(data.draw(st.integers(0, 3))):
        content = rng.choice(table_damage.DAMAGES)(content, rng)
    check(
        data.draw(st.sampled_from(["e.csv", "e.csv.gz"])),
        content,
        data.draw(BLOCK_ROWS),
        unit=unit,
        separator=separator,
        timestamp_unit=data.draw(st.sampled_from(["auto", unit])),
        quotes=data.draw(st.sampled_from(["auto", "double", "none"])),
        encoding=data.draw(st.sampled_from(["utf-8", "latin-1"])),
        empty_values=data.draw(EMPTY),
    )


def test_a_line_break_in_a_category_is_a_reject():
    values, rejects, _, _ = check("e.csv", b'user_id,item_id,event\nu,a,play\nu,b,"pl\nay"\n', 1)
    assert len(values) == 1 and len(rejects) == 1 and "bad_text" in rejects[0]


@given(st.randoms(use_true_random=False), BLOCK_ROWS)
@SETTINGS
def test_damaged_tables_of_every_format(rng, block_rows):
    """The damage that the fuzzer does, seen through the columns of the catalogue that no list needs."""
    columns = tuple(column for column in CATALOGUE if column.kind != "list")
    table = table_damage.make(rng)
    content = (
        gzip.decompress(table.content) if table.name.endswith(".gz") and _is_whole(table.content) else table.content
    )
    check(table.name.removesuffix(".gz"), content, block_rows, columns, **table.settings)


def _is_whole(content):
    try:
        return bool(gzip.decompress(content)) or True
    except (EOFError, OSError):
        return False


UTC = timezone.utc
ARRAYS = {
    "user_id": [
        pa.array(["u", " v", None, "-1", "nan", ""]),
        pa.array(["u", "v", None, "Öl", "a b", "u"]).dictionary_encode(),
        pa.array([1, -1, None, 10**18, 7, 0], pa.int64()),
        pa.array([1, 2, 3, None, 2**64 - 1, 0], pa.uint64()),
        pa.array([1.0, 2.5, None, float("nan"), 1e300, 0.0]),
        pa.array([b"u", b"\xff", None, b"", b"x\0", b"-1"]),
        pa.array([b"u", b"\xff", None, b"v", b"w\n", b"-1"]).view(pa.string()),
        pa.array([Decimal("1"), Decimal("-1"), None, Decimal("10"), Decimal("7"), Decimal("0")], pa.decimal128(20, 0)),
        pa.array([True, False, None, True, True, False]),
        pa.array([["u"], [], None, ["v"], ["w"], [None]]),
    ],
    "timestamp": [
        pa.array([1_700_000_000, 0, None, -1, 99_999_999, 10**12], pa.int64()),
        pa.array([1_700_000_000, 0, None, 1, 99_999_999, 10**9], pa.int32()),
        pa.array([1.7e9, 1.7e9 + 0.5, None, float("nan"), float("inf"), -0.0]),
        pa.array([1_700_000_000_123_456_789, 10**17, None, 10**17 - 1, 2**62, -1], pa.int64()),
        *(
            pa.array([datetime(2024, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999), None] * 2, kind)
            for kind in (pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("ns"))
        ),
        pa.array([date(2024, 1, 1), date(1, 1, 1), None] * 2, pa.date32()),
        pa.array([date(2024, 1, 1), date(1980, 1, 1), None] * 2, pa.date64()),
        pa.array(["1700000000", "2024-05-31 18:00:00", None, "2024-05-31", "-1", "soon"]),
        pa.array([b"1700000000", b"2024-05-31 18:00:00", None, b"", b"-1", b"\xff"]),
        pa.array([Decimal("1700000000.5"), Decimal("-1"), None] * 2, pa.decimal128(20, 1)),
        pa.nulls(6),
    ],
    "value": [
        pa.array([1.0, -0.0, 0.0, None, float("nan"), 1e39]),
        pa.array([1.0, -0.0, 0.0, None, float("inf"), 0.1], pa.float32()),
        pa.array([1, 2, 3, None, -1, 0], pa.int8()),
        pa.array(["1", "2.5", "x", None, "-1", ""]),
        pa.array([b"1", b"2.5", b"\xff", None, b"-1", b""]),
        pa.array([Decimal("1.5"), Decimal("-1"), None] * 2, pa.decimal128(20, 1)),
        pa.array([1, None, 3] * 2, pa.duration("s")),
        pa.array([{"a": 1}, None, {"a": 2}] * 2),
    ],
    "event": [
        pa.array(["play", "", None, "null", " like", "Öl"]),
        pa.array([b"play", b"", None, b"null", b" like", b"\xff"]),
        pa.array(["play", None, "like"] * 2).dictionary_encode(),
        pa.array([True, None, False] * 2),
        pa.array([1, None, -1] * 2),
        pa.array([1.5, None, float("nan")] * 2),
    ],
}


@given(st.data())
@SETTINGS
def test_parquet_of_every_type(data):
    """Also columns that cannot be converted as a whole, and those that are not there."""
    taken = pa.array(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=20)))
    columns = {name: data.draw(st.sampled_from(arrays)).take(taken) for name, arrays in ARRAYS.items()}
    columns["item_id"] = pa.array(["a"] * len(taken))
    if data.draw(st.booleans()):
        del columns[data.draw(st.sampled_from(["timestamp", "value", "event"]))]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=data.draw(st.sampled_from([2, 100])))
    unit = data.draw(st.sampled_from(sorted(TIMES)))
    check(
        "e.parquet",
        sink.getvalue().to_pybytes(),
        data.draw(BLOCK_ROWS),
        unit=unit,
        timestamp_unit=data.draw(st.sampled_from(["auto", unit])),
        empty_values=data.draw(EMPTY),
        earliest_time=data.draw(st.sampled_from(["", "1970-01-01"])),
    )


@given(events("s"), BLOCK_ROWS)
@SETTINGS
def test_json_lines(rows, block_rows):
    lines = [json.dumps(row) for row in rows] + ["{", "[1]", ""]
    _, rejects, _, number = check("e.jsonl", "\n".join(lines).encode(), block_rows, unit="s")
    assert number == len(rows) + 2 and len(rejects) >= 2


def test_times_whose_unit_no_first_row_shows():
    """Each is a reject, none the end of the run."""
    times = ["", "20240101", "45292", "1700000000"]
    content = "user_id,item_id,timestamp\n" + "".join(f"u,{n},{time}\n" for n, time in enumerate(times))
    rows, rejects, _, _ = check("e.csv", content.encode(), 1000)
    assert len(rows) == 1 and len(rejects) == 3 and all("mixed_time_unit" in reject for reject in rejects)


@pytest.mark.parametrize("block_rows", [1, 1000])
def test_a_header_again_is_no_event(block_rows):
    """Also with the byte order mark of the file that it comes from."""
    content = "\ufeffuser_id,item_id\nu,a\n\ufeffuser_id,item_id\nv,b\n"
    rows, rejects, _, _ = check("e.csv", content.encode(), block_rows)
    assert [line for _, line, _ in rows] == [2, 4] and "repeated_header" in rejects[0] and len(rejects) == 1


def test_blanks_after_values_do_not_count():
    columns = tuple(column for column in CATALOGUE if column.kind != "list")
    content = b"item_id,media_uri,title\n1,a.mp3 ,x\n2,x,b \n3,a.mp3,x\n"
    rows, rejects, _, _ = check("i.csv", content, 1000, columns)
    assert sum("'media_uri': 'a.mp3'" in values for _, _, values in rows) == 2 and not rejects


def test_plain_rows_are_read_as_columns(monkeypatch):
    """The way that is fast is the way that is taken: of plain rows none is looked at by itself."""
    monkeypatch.setattr("components.tables.readers._typed", None)
    monkeypatch.setattr("components.tables.csv_blocks.record_of", None)
    rows = [f"user{n},item{n % 3},{1_700_000_000 + n},rating,4.5" for n in range(100)]
    with TemporaryDirectory() as folder:
        for name in ("user_id", "user"):
            path = write(Path(folder, "e.csv"), "\n".join([f"{name},item_id,timestamp,event,value", *rows]))
            facts = facts_of(path, unit="s")
            facts.names[str(path)]["user_id"] = name
            (block,) = read_blocks(str(path), EVENTS, facts)
            assert block.rows.num_rows == block.num_rows == 100 and not block.rejects
            assert block.rows["user_id"][7].as_py() == "user7" and block.rows[SOURCE_LINE][7].as_py() == 9
