"""Columns: found by their names and near misses of them, named where they are not read."""

import json

import pytest

from components.config import DataConfig, TableConfig
from components.contract import EVENTS
from components.tables.columns import table_and_columns
from components.tables.raw import TableError
from tests.components.tables.reading import ITEMS, notes, read, titles, write

UNDECLARED = "item_id,{}\n1,a\n2,b\n"


@pytest.mark.parametrize("name", ["Title", "TITLE", " title ", "ti-tle", "Ti Tle"])
def test_a_header_in_another_case_is_read_and_told(tmp_path, name):
    """D12: it was an empty catalogue."""
    path = write(tmp_path / "items.csv", UNDECLARED.format(name))
    rows, rejects = read(path)
    assert titles(rows) == {"1": "a", "2": "b"} and not rejects
    assert notes(path).get("near_misses", {}) == ({} if name.strip() == "title" else {"title": name})


def test_near_misses_are_read_in_every_format(tmp_path):
    """D12."""
    row = {"Item ID": "1", "Title": "a", "DurationS": 3, "mediaUri": "x.mp3"}
    write(tmp_path / "items.jsonl", json.dumps(row) + "\n")
    write(tmp_path / "items.csv", ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    for ending in ("jsonl", "csv"):
        rows, _ = read(tmp_path / f"items.{ending}")
        assert [row.values for row in rows] == [{"item_id": "1", "title": "a", "duration_s": 3.0, "media_uri": "x.mp3"}]


def test_of_two_near_misses_none_is_taken_and_both_are_told(tmp_path):
    """D12: an exact name goes before both."""
    path = write(tmp_path / "items.csv", "item_id,Title,TITLE\n1,a,b\n")
    assert titles(read(path)[0]) == {"1": None}
    assert notes(path)["did_you_mean"] == {"TITLE": "title", "Title": "title"}
    path = write(tmp_path / "items.csv", "item_id,Title,title\n1,a,b\n")
    assert titles(read(path)[0]) == {"1": "b"} and notes(path)["ignored_columns"] == ["Title"]


def test_a_misspelt_column_is_told_and_a_stranger_is_only_listed(tmp_path):
    """D12."""
    noted = notes(write(tmp_path / "items.csv", "item_id,titel,tag,colour\n1,a,b,c\n"))
    assert noted["did_you_mean"] == {"titel": "title", "tag": "tags"}
    assert noted["ignored_columns"] == ["colour", "tag", "titel"]


def test_a_required_column_under_a_near_name_is_asked_for(tmp_path):
    """D12."""
    path = write(tmp_path / "events.csv", "user,item_idd,timestamp\nu,a,2024-01-01\n")
    with pytest.raises(TableError, match="no column user_id, item_id .*'item_idd' for item_id.* state it in columns"):
        read(path, EVENTS)


@pytest.mark.parametrize("text", ["1,Toy Story,film\n2,Heat,film\n", "a,2024-01-01,b\nb,2024-01-02,c\n", "7,7,x\n"])
def test_a_file_without_a_header_is_told_as_that(tmp_path, text):
    """D15."""
    with pytest.raises(TableError, match="this file has no header: its first row looks like data; no column item_id"):
        read(write(tmp_path / "items.csv", text))


def test_a_header_with_unnamed_columns_is_read(tmp_path):
    """A spreadsheet's empty columns stand twice and are nobody's."""
    path = write(tmp_path / "items.csv", "item_id,title,,\n1,a,,\n")
    assert titles(read(path)[0]) == {"1": "a"}


def test_settings_name_columns_that_there_are():
    data = DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), categorical=("domain",))
    with pytest.raises(TableError, match="domain"):
        table_and_columns(data, "catalogue")
    with pytest.raises(TableError, match="users"):
        table_and_columns(data, "users")
    for setting, value in (("columns", {"titel": "Title"}), ("empty_values_of", {"titel": ("-",)})):
        renamed = DataConfig(catalogue=TableConfig("c", **{setting: value}), events=TableConfig("e"))
        with pytest.raises(TableError, match=f"catalogue.{setting}: there is no column titel.*item_id, title"):
            table_and_columns(renamed, "catalogue")


def test_declared_columns_may_be_near_misses_too(tmp_path):
    rows, _ = read(write(tmp_path / "items.csv", "item_id,Year,embedding_clip\n1,1999,1 2\n"), ITEMS)
    assert rows[0].values == {"item_id": "1", "year": 1999.0, "embedding:clip": [1.0, 2.0]}
