"""The readers: what a file says is what comes out, and what cannot be read is named with file and line."""

import gzip
import json

import apache_beam as beam
import pandas as pd
import pytest
from apache_beam.testing.util import assert_that, equal_to

from components.config import DataConfig, TableConfig
from components.contract import EVENTS
from components.tables import inspection
from components.tables.columns import table_and_columns
from components.tables.inspection import inspect_table
from components.tables.raw import TableError
from components.tables.readers import ReadTable
from tests.components.tables.reading import ITEMS, PLAIN_ITEMS, notes, read, titles, write

GOOD_EVENTS = (
    "user_id,item_id,timestamp,event\n007,0042,1700000000,play\n7,42,1700000001,like\n"
    "010,12345678901234567890,1700000002,\n"
)
GOOD_ITEMS = 'item_id,description,title\n0042,"two\nlines","a, b"\n42,,Zoë\n'


@pytest.mark.parametrize("text, columns", [(GOOD_EVENTS, EVENTS), (GOOD_ITEMS, PLAIN_ITEMS)])
def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path, text, columns):
    """C01."""
    plain, _ = read(write(tmp_path / "plain.csv", text), columns)
    excel, rejects = read(write(tmp_path / "excel.csv", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()), columns)
    assert [(row.line, row.values) for row in excel] == [(row.line, row.values) for row in plain]
    assert not rejects and "\ufeff" not in repr(excel) and "\\r" not in repr(excel)


def test_number_like_ids_keep_their_zeros_in_every_format(tmp_path):
    """C02."""
    ids = ["007", "7", "010", "0042", "42", "12345678901234567890"]
    frame = pd.DataFrame({"item_id": ids})
    frame.to_csv(tmp_path / "items.csv", index=False)
    frame.to_json(tmp_path / "items.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "items.parquet")
    for ending in ("csv", "jsonl", "parquet"):
        rows, rejects = read(tmp_path / f"items.{ending}")
        assert [row.values["item_id"] for row in rows] == ids and not rejects


QUOTED = 'item_id,title,domain\n1,plain,film\n2,"with, comma",film\n3,"with ""quotes""",film\n4,"with\nnewline",film\n'


def test_quoted_titles_are_exact(tmp_path):
    """C03."""
    rows, rejects = read(write(tmp_path / "items.csv", QUOTED))
    assert titles(rows) == {"1": "plain", "2": "with, comma", "3": 'with "quotes"', "4": "with\nnewline"}
    assert [row.line for row in rows] == [2, 3, 4, 5] and not rejects


@pytest.mark.parametrize(
    "after",
    ["6,next,film\n7,last,film\n", '6,"next, quoted",film\n7,last,film\n', '6,next,"film"\n7,"l ""a"" st",film\n', ""],
)
def test_an_unclosed_quote_costs_its_own_line_only(tmp_path, after):
    """C03: rejected with file and starting line; rows before and after it are there, and no title holds another row."""
    path = write(tmp_path / "items.csv", QUOTED + '5,"never closed,film\n' + after)
    rows, rejects = read(path)
    assert [(reject["source"], reject["line"], reject["reason"]) for reject in rejects] == [
        (str(path), 7, "bad_quotes")
    ]
    assert [row.values["item_id"] for row in rows] == ["1", "2", "3", "4"] + [line[0] for line in after.splitlines()]
    assert all("never closed" not in (title or "") for title in titles(rows).values())


def test_a_quote_that_is_open_for_hundreds_of_lines_does_not_swallow_them(tmp_path):
    """C03."""
    lines = [f"{n},title {n},film" for n in range(1200)]
    lines[100] = '100,"never closed,film'
    rows, rejects = read(write(tmp_path / "items.csv", "item_id,title,domain\n" + "\n".join(lines) + "\n"))
    assert len(rows) == 1199 and [reject["line"] for reject in rejects] == [102]


def test_wrong_field_counts_are_rejected_by_line(tmp_path):
    """C04."""
    lines = ["item_id,title,domain"] + [f"{n},title {n},film" for n in range(2, 102)]
    lines[37], lines[70] = "x,short", "y,too,long,row"
    path = write(tmp_path / "items.csv", "\n".join(lines))
    rows, rejects = read(path)
    assert len(rows) == 98
    assert [(reject["source"], reject["line"], reject["reason"]) for reject in rejects] == [
        (str(path), 38, "field_count"),
        (str(path), 71, "field_count"),
    ]


LATIN = "item_id::title::tags\n1::Misérables, Les (1995)::Drama|Musical\n2::Heat::Action\n".encode("latin-1")


def test_the_stated_encoding_gives_the_exact_title(tmp_path):
    """C05."""
    rows, rejects = read(write(tmp_path / "movies.dat", LATIN), separator="::", encoding="latin-1")
    assert titles(rows) == {"1": "Misérables, Les (1995)", "2": "Heat"} and not rejects
    assert rows[0].values["tags"] == ["Drama", "Musical"]


def test_the_wrong_encoding_is_named_with_line_and_byte(tmp_path):
    """C05: never U+FFFD, never a silent drop."""
    rows, (reject,) = read(write(tmp_path / "movies.dat", LATIN), separator="::")
    assert titles(rows) == {"2": "Heat"}
    assert (reject["line"], reject["reason"]) == (2, "bad_encoding")
    assert "0xE9" in reject["detail"] and "encoding" in reject["detail"]
    path = write(tmp_path / "items.jsonl", b'{"item_id": "1", "title": "Mis\xe9rables"}\n{"item_id": "2"}\n')
    rows, (reject,) = read(path)
    assert len(rows) == 1 and reject["reason"] == "bad_encoding" and "0xE9" in reject["detail"]


def test_utf_16_is_read_when_stated(tmp_path):
    rows, _ = read(
        write(tmp_path / "items.csv", "item_id\ttitle\n1\tZoë\n".encode("utf-16")), separator="\t", encoding="utf-16"
    )
    assert titles(rows) == {"1": "Zoë"}
    with pytest.raises(TableError, match="latin-99"):
        read(tmp_path / "items.csv", encoding="latin-99")


def test_empty_genre_lists_are_absent(tmp_path):
    """C06."""
    rows, _ = read(write(tmp_path / "items.csv", "item_id,tags\n1,Drama|War\n2,(no genres listed)\n3,\n"))
    assert [row.values.get("tags") for row in rows] == [["Drama", "War"], None, None]


@pytest.mark.parametrize(
    "content, found",
    [
        ("", "no row; no columns found; expected: .*; 0 rows"),
        ("item_id,title\n", r"columns found: 'item_id', 'title'; expected: item_id \(required\), .*; 0 rows"),
    ]
    + [
        (
            "item_id;title\n1;a\n2;b\n",
            r"columns found: 'item_id;title'; expected: item_id \(required\), title, .*; 2 rows; separator ','",
        )
    ],
)
def test_a_file_with_nothing_in_it_stops_the_run(tmp_path, content, found):
    """C11: empty, header only, wrong separator."""
    path = write(tmp_path / "items.csv", content)
    with pytest.raises(TableError, match=found) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_other_tables_that_cannot_be_used(tmp_path):
    """C11."""
    with pytest.raises(TableError, match="no file matches"):
        read(tmp_path / "*.csv")
    with pytest.raises(TableError, match=r"no column item_id; .*'id'"):
        read(write(tmp_path / "items.jsonl", '{"id": 1}\n'))
    with pytest.raises(TableError, match="0 rows"):
        read(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(TableError, match="unknown kind of file"):
        read(write(tmp_path / "items.xlsx", "x"))
    with pytest.raises(TableError, match="not a Parquet file"):
        read(write(tmp_path / "items.parquet", "item_id\n1\n"))
    with pytest.raises(TableError, match="twice"):
        read(write(tmp_path / "twice.csv", "item_id,title,title\n1,a,b\n"))
    with pytest.raises(TableError, match="no column year"):
        read(write(tmp_path / "undeclared.csv", "item_id\n1\n"), ITEMS)
    with pytest.raises(TableError, match="no column Titel"):
        inspect_table(TableConfig(str(tmp_path / "undeclared.csv"), columns={"title": "Titel"}), PLAIN_ITEMS)


def test_a_gzip_that_is_cut_off_stops_the_run(tmp_path):
    whole = gzip.compress(("item_id,title\n" + "".join(f"{n},title {n * n}\n" for n in range(5000))).encode())
    rows, _ = read(write(tmp_path / "whole.csv.gz", whole))
    assert len(rows) == 5000
    with pytest.raises(TableError, match="cut.csv.gz: cannot be read after line"):
        read(write(tmp_path / "cut.csv.gz", whole[: len(whole) // 2]))


def test_the_formats_agree(tmp_path):
    """The same table as CSV, JSONL and Parquet, plain and gzipped, gives the same values."""
    items = [
        {
            "item_id": "1",
            "title": "a",
            "tags": ["x", "y"],
            "duration_s": 1.5,
            "year": 1999.0,
            "embedding:clip": [1.0, -2.0],
        },
        {"item_id": "2", "published_at": "2024-01-01T00:00:00Z", "year": 7.0},
    ]
    write(tmp_path / "items.jsonl", "".join(json.dumps(item) + "\n" for item in items))
    pd.DataFrame(items).to_parquet(tmp_path / "items.parquet")
    cells = [
        {**item, "tags": "|".join(item.get("tags", [])), "embedding:clip": item.get("embedding:clip", "")}
        for item in items
    ]
    pd.DataFrame(cells).to_csv(tmp_path / "items.csv", index=False)
    for ending in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"items.{ending}"
        write(tmp_path / f"items.{ending}.gz", gzip.compress(path.read_bytes()))
        for source in (path, tmp_path / f"items.{ending}.gz"):
            rows, rejects = read(source, ITEMS)
            assert not rejects
            assert [row.values for row in rows] == [items[0], {**items[1], "published_at": 1_704_067_200}]


def test_parquet_times_and_integers(tmp_path):
    frame = pd.DataFrame(
        {"user_id": [7, 8], "item_id": [10**18, 2], "timestamp": pd.to_datetime(["2024-01-01", None], utc=True)}
    )
    frame.to_parquet(tmp_path / "events.parquet")
    rows, rejects = read(tmp_path / "events.parquet", EVENTS)
    assert [row.values for row in rows] == [
        {"user_id": "7", "item_id": str(10**18), "timestamp": 1_704_067_200},
        {"user_id": "8", "item_id": "2"},
    ]
    pd.DataFrame({"user_id": [7.0], "item_id": ["a"]}).to_parquet(tmp_path / "floats.parquet")
    _, (reject,) = read(tmp_path / "floats.parquet", EVENTS)
    assert reject["reason"] == "bad_id" and reject["line"] == 1


def test_jsonl_rejects(tmp_path):
    lines = [
        '{"item_id": "1"}',
        "{broken",
        "[1]",
        "",
        '{"item_id": null}',
        '{"item_id": "6", "duration_s": NaN}',
        '{"item_id": "6b", "duration_s": 1e400}',
        '{"item_id": "7", "title": 1917}',
    ]
    rows, rejects = read(write(tmp_path / "items.jsonl", "\n".join(lines)))
    assert titles(rows) == {"1": None, "6": None, "7": "1917"}
    assert [(reject["line"], reject["reason"], reject["item_id"]) for reject in rejects] == [
        (2, "bad_json", None),
        (3, "bad_json", None),
        (5, "missing_required", None),
        (7, "non_finite", "6b"),
    ]


def test_the_unit_of_the_times_is_detected_once_and_a_mixture_is_rejected(tmp_path):
    path = write(
        tmp_path / "events.csv",
        "user_id,item_id,timestamp\nu,1,1700000000\nu,2,1700000000000\nu,3,2024-01-01\nu,4,1700000001\n",
    )
    rows, rejects = read(path, EVENTS)
    assert [row.line for row in rows] == [2, 5]
    assert [(reject["line"], reject["reason"]) for reject in rejects] == [
        (3, "mixed_time_unit"),
        (4, "mixed_time_unit"),
    ]
    config = TableConfig(str(path))
    assert inspect_table(config, EVENTS).notes["timestamp_unit"] == "s"
    with pytest.raises(TableError, match="state timestamp_unit"):
        read(write(tmp_path / "counter.csv", "user_id,item_id,timestamp\nu,1,1\nu,2,2\n"), EVENTS)
    rows, _ = read(tmp_path / "counter.csv", EVENTS, timestamp_unit="s", earliest_time="1970-01-01")
    assert [row.values["timestamp"] for row in rows] == [1, 2]


def test_a_glob_names_its_unknown_columns_and_empty_parts(tmp_path):
    write(tmp_path / "part-0.csv", "item_id,colour\n1,red\n")
    write(tmp_path / "part-1.csv", "item_id,colour\n")
    facts = inspect_table(TableConfig(str(tmp_path / "part-*.csv")), PLAIN_ITEMS)
    assert facts.notes == {
        "files": 2,
        "ignored_columns": ["colour"],
        "files_without_rows": [str(tmp_path / "part-1.csv")],
    }


def test_each_file_has_names_of_its_own(tmp_path, monkeypatch):
    """Also JSON, whose rows say them; what the first rows of one do not show is called as in the others."""
    for name in ("PEEKED_ROWS", "PEEKED_ROWS_FOR_TIME"):
        monkeypatch.setattr(inspection, name, 2)
    write(tmp_path / "a.jsonl", '{"Item_ID": "1", "Title": "a"}\n')
    write(tmp_path / "b.jsonl", '{"item_id": "2", "title": "b"}\n')
    write(tmp_path / "c.jsonl", '{"item_id": "3"}\n{"item_id": "4"}\n{"item_id": "5", "Creator": "c"}\n')
    write(tmp_path / "d.csv", "ITEM-ID,Creator\n6,d\n")
    rows, rejects = read(tmp_path)
    assert titles(rows) == {"1": "a", "2": "b", "3": None, "4": None, "5": None, "6": None} and not rejects
    assert [row.values.get("creator") for row in rows[-2:]] == ["c", "d"]
    found = notes(tmp_path)
    assert found["near_misses"] == {"item_id": "ITEM-ID", "title": "Title", "creator": "Creator"}
    assert "ignored_columns" not in found


def test_the_transform_gives_the_rows_of_all_files(tmp_path):
    write(tmp_path / "part-0.csv", "key,title\n1,a\n")
    write(tmp_path / "part-1.csv", "key,title\n2,b,extra\n3,c\n")
    config = TableConfig(str(tmp_path / "part-*.csv"), columns={"item_id": "key"})
    facts = inspect_table(config, PLAIN_ITEMS)
    with beam.Pipeline() as pipeline:
        read_table = pipeline | ReadTable(PLAIN_ITEMS, facts)
        assert_that(
            read_table.rows | beam.Map(lambda row: (row.values["item_id"], row.line)),
            equal_to([("1", 2), ("3", 3)]),
            label="rows",
        )
        assert_that(
            read_table.rejects | beam.Map(lambda reject: (reject["line"], reject["reason"])),
            equal_to([(2, "field_count")]),
        )


def test_declared_columns_do_not_shadow_the_contract():
    data = DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), categorical=("domain",))
    with pytest.raises(TableError, match="domain"):
        table_and_columns(data, "catalogue")
    with pytest.raises(TableError, match="users"):
        table_and_columns(data, "users")
    renamed = DataConfig(catalogue=TableConfig("c", columns={"titel": "Title"}), events=TableConfig("e"))
    with pytest.raises(TableError, match="catalogue.columns: there is no column titel.*item_id, title"):
        table_and_columns(renamed, "catalogue")
