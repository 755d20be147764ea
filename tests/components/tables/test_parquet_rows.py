"""Parquet: what has one meaning is read, what has none costs its row, with the row's number."""

import datetime
import random
import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.table_damage import make
from components.config import DataConfig, TableConfig
from components.contract import EVENTS, catalogue_columns
from components.tables.raw import TableError
from tests.components.tables.reading import PLAIN_ITEMS, faults, notes, read, titles, write

NOON_S = 1_704_110_400
EMBEDDED = catalogue_columns(
    DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), embeddings={"a.b": 1}, numeric=("year",))
)


def table(folder, columns, **options):
    """A Parquet file with these columns, by name."""
    pq.write_table(pa.table(columns), folder / "table.parquet", **options)
    return folder / "table.parquet"


def test_decimals_without_a_fraction_are_ids_and_times(tmp_path):
    """D07."""
    wide = pa.decimal128(38, 0)
    columns = {
        "user_id": pa.array([Decimal(7), Decimal(10**37)], wide),
        "item_id": pa.array([Decimal(1), Decimal(2)], pa.decimal256(50, 0)),
        "timestamp": pa.array([Decimal(NOON_S), Decimal(NOON_S + 1)], wide),
        "value": pa.array([Decimal("3.50"), None], pa.decimal128(10, 2)),
    }
    rows, rejects = read(table(tmp_path, columns), EVENTS)
    assert not rejects and [row.values for row in rows] == [
        {"user_id": "7", "item_id": "1", "timestamp": NOON_S, "value": 3.5},
        {"user_id": "1" + "0" * 37, "item_id": "2", "timestamp": NOON_S + 1},
    ]
    rows, rejects = read(
        table(tmp_path, {"item_id": pa.array([Decimal("7.50"), Decimal("7.00")], pa.decimal128(5, 2))})
    )
    assert not rows and faults(rejects) == [(1, "bad_id"), (2, "bad_id")]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "list"])
def test_text_that_is_not_utf_8_costs_its_row(tmp_path, kind):
    """D07."""
    texts = pa.array([b"fine", b"caf\xe9", None, b"also fine"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers(), texts.null_count)
    if kind == "large_string":
        texts = texts.cast(pa.large_string())
    if kind == "dictionary":
        texts = texts.dictionary_encode()
    name = "title"
    if kind == "list":
        name, texts = "tags", pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4]), texts)
    rows, rejects = read(table(tmp_path, {"item_id": ["1", "2", "3", "4"], name: texts}))
    assert [row.values["item_id"] for row in rows] == ["1", "3", "4"] and faults(rejects) == [(2, "bad_encoding")]
    assert rows[0].values[name] == (["fine"] if kind == "list" else "fine")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_times_are_read_in_the_unit_that_the_file_states(tmp_path, unit, zone):
    """D07: with any setting, and one that no calendar has costs its row."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    beyond = 2**63 - 1 if unit != "s" else 10**15
    cells = pa.array(
        [NOON_S * per_second, beyond, None, NOON_S * per_second + per_second // 2], pa.timestamp(unit, zone)
    )
    columns = {"user_id": ["u"] * 4, "item_id": list("abcd"), "timestamp": cells}
    options = {"version": "2.6"} if unit != "s" else {}
    path = table(tmp_path, columns, **options)
    for stated in ("auto", "ms", "iso"):
        rows, rejects = read(path, EVENTS, timestamp_unit=stated)
        assert [row.values.get("timestamp") for row in rows] == [NOON_S, None, NOON_S]
        assert faults(rejects) == [(2, "bad_time")]


def test_dates_are_their_first_second(tmp_path):
    """D07."""
    days = pa.array([datetime.date(2024, 1, 1), datetime.date(1959, 3, 2), None], pa.date32())
    rows, rejects = read(table(tmp_path, {"item_id": list("abc"), "published_at": days}))
    assert not rejects
    assert [row.values.get("published_at") for row in rows] == [NOON_S - 43_200, -341_971_200, None]
    far = pa.array([2**31 - 1, 0], pa.int32()).cast(pa.date32())
    _, rejects = read(table(tmp_path, {"item_id": list("ab"), "published_at": far}))
    assert faults(rejects) == [(1, "bad_time")]


def test_uuids_are_their_text(tmp_path):
    """D07: bytes that the file calls a UUID; others are no text, and say so."""
    made = [uuid.UUID(int=n * 10**30 + 200) for n in (1, 2)]
    raw = pa.array([one.bytes for one in made], pa.binary(16))
    rows, rejects = read(table(tmp_path, {"item_id": raw}))
    assert not rows and faults(rejects) == [(1, "bad_encoding"), (2, "bad_encoding")]
    rows, _ = read(table(tmp_path, {"item_id": pa.array([b"plain", b"bytes"], pa.binary())}))
    assert [row.values["item_id"] for row in rows] == ["plain", "bytes"]


def test_bytes_are_text(tmp_path):
    """In every kind of column, by the rules of text: blank, a word for nothing, in a list, not UTF-8."""
    mark = "\ufeff".encode()
    columns = {
        "item_id": pa.array([b"", b"a", mark, b"b"]),
        "title": pa.array([b"x", b"(no genres listed)", b"x", b"y"]),
        "tags": pa.array([None, [b"(no genres listed)", b"", b"x", None], None, [b"caf\xe9"]]),
        "media_uri": pa.array([b""] * 4, pa.large_binary()),
        "duration_s": pa.array([b"2.5"] * 4, pa.binary(3)),
        "published_at": pa.array([b"2024-01-01 12:00:00"] * 4).dictionary_encode(),
    }
    rows, rejects = read(table(tmp_path, columns))
    assert [row.values for row in rows] == [{"item_id": "a", "tags": ["x"], "duration_s": 2.5, "published_at": NOON_S}]
    assert faults(rejects) == [(1, "missing_required"), (3, "missing_required"), (4, "bad_encoding")]


def test_durations_are_seconds_where_a_column_has_seconds(tmp_path):
    """D07."""
    lengths = pa.array([90_500, None, 2**62], pa.duration("ms"))
    columns = {
        "item_id": list("abc"),
        "duration_s": lengths,
        "year": pa.array([1, 2, 3], pa.duration("s")),
        "embedding:a.b": [[1.0]] * 3,
    }
    rows, rejects = read(table(tmp_path, {"item_id": list("abc"), "duration_s": lengths}))
    assert [row.values.get("duration_s") for row in rows] == [90.5, None, 2**62 / 1000] and not rejects
    _, rejects = read(table(tmp_path, columns), EMBEDDED)
    assert faults(rejects) == [(1, "bad_number"), (2, "bad_number"), (3, "bad_number")], "a year is no duration"


def test_lists_of_structs_and_other_shapes_cost_their_rows(tmp_path):
    """D07."""
    columns = {
        "item_id": list("abcd"),
        "tags": pa.array([[{"name": "x"}], [], None, [{"name": None}]]),
        "title": pa.array([None, {"a": 1}, None, None]),
        "duration_s": pa.array([None, None, datetime.time(1, 2), None]),
    }
    rows, rejects = read(table(tmp_path, columns))
    assert [row.values for row in rows] == [] and faults(rejects) == [
        (1, "bad_list"),
        (2, "bad_text"),
        (3, "bad_number"),
        (4, "bad_list"),
    ]


def test_a_repeated_name_is_an_error_where_it_is_read(tmp_path):
    """D07: and no matter where nobody reads it."""
    double = pa.Table.from_arrays([pa.array(["1"])] * 3, names=["item_id", "title", "title"])
    pq.write_table(double, tmp_path / "table.parquet")
    with pytest.raises(TableError, match="stands twice in the header: title"):
        read(tmp_path / "table.parquet")
    pq.write_table(double.rename_columns(["item_id", "x", "x"]), tmp_path / "table.parquet")
    assert titles(read(tmp_path / "table.parquet")[0]) == {"1": None}
    assert notes(tmp_path / "table.parquet")["ignored_columns"] == ["x"]


def test_a_name_with_a_dot_is_a_name(tmp_path):
    columns = {"item_id": ["1"], "embedding:a.b": [[0.5]], "year": [1.0], "embedding:a": [{"b": 1}]}
    rows, _ = read(table(tmp_path, columns), EMBEDDED)
    assert rows[0].values == {"item_id": "1", "embedding:a.b": [0.5], "year": 1.0}


def test_nan_is_nothing_in_an_optional_number(tmp_path):
    """D08: also in a time; in an id it is missing; infinity is a number that does not fit."""
    nan = float("nan")
    columns = {
        "user_id": pa.array(["u", "v", "w"]),
        "item_id": pa.array(["a", "b", "c"]),
        "timestamp": pa.array([float(NOON_S), nan, float(NOON_S)]),
        "value": pa.array([nan, 1.0, float("inf")], from_pandas=False),
    }
    rows, rejects = read(table(tmp_path, columns), EVENTS)
    assert [row.values for row in rows] == [
        {"user_id": "u", "item_id": "a", "timestamp": NOON_S},
        {"user_id": "v", "item_id": "b", "value": 1.0},
    ]
    assert rows[0].notes == ("value: NaN, read as absent",) and faults(rejects) == [(3, "non_finite")]
    rows, rejects = read(table(tmp_path, {"item_id": pa.array([nan], from_pandas=False)}))
    assert not rows and faults(rejects) == [(1, "missing_required")]


def test_a_damaged_file_is_told_with_the_rows_before_it(tmp_path):
    """D07: never a bare exception."""
    columns = {"item_id": [str(n) for n in range(9000)], "title": ["text " * 20 + str(n) for n in range(9000)]}
    path = table(tmp_path, columns, compression="zstd", row_group_size=1000, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    with pytest.raises(TableError, match=r"table.parquet: cannot be read after line \d+"):
        read(write(path, bytes(content)), PLAIN_ITEMS)


def test_rows_that_a_damaged_page_withholds_are_told(tmp_path):
    """D07: pyarrow ends some damaged columns early without an error; the file's own count of its rows does not."""
    table = make(random.Random(2099))
    path = write(tmp_path / table.name, table.content)
    assert pq.ParquetFile(path).metadata.num_rows == 7
    assert sum(batch.num_rows for batch in pq.ParquetFile(path).iter_batches()) == 3
    with pytest.raises(
        TableError, match="table.parquet: cannot be read after line 3: the file says that it has 7 rows"
    ):
        read(path)
