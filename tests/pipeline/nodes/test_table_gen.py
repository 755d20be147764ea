"""The node that reads a table."""

import pytest

from components.config import DataConfig, TableConfig
from components.contract import CATALOGUE, EVENTS, user_columns
from components.rejects import read_summary
from components.tables.raw import TableError
from tests.components.nodes import read_rejects, read_values, run_table_gen


def write_tables(folder, items="item_id\na\n", events="user_id,item_id\nu,a\n", users="user_id,age\nu,3\n"):
    for name, text in (("items", items), ("events", events), ("users", users)):
        (folder / f"{name}.csv").write_text(text)
    return DataConfig(
        catalogue=TableConfig(str(folder / "items.csv")),
        events=TableConfig(str(folder / "events.csv")),
        users=TableConfig(str(folder / "users.csv")),
        user_numeric=("age",),
    )


def test_duplicate_items_collapse_and_contradictions_are_reported(tmp_path):
    """C07: each id once; the first row stands; an exact copy is counted, a contradiction names both lines.

    C08: ids count, not titles.
    """
    data = write_tables(
        tmp_path, items="item_id,title,domain\n1,Same,film\n2,Same,film\n1,Same,film\n1,Other,film\n1,Same,\n"
    )
    examples, rejects = run_table_gen(tmp_path, "catalogue", data)
    rows = sorted(read_values(examples, CATALOGUE), key=lambda row: row["item_id"])
    assert [(row["item_id"], row["title"]) for row in rows] == [("1", "Same"), ("2", "Same")]
    conflicts = read_rejects(rejects)
    assert [(reject["line"], reject["item_id"], reject["reason"]) for reject in conflicts] == [
        (5, "1", "duplicate_id"),
        (6, "1", "duplicate_id"),
    ]
    assert "line 5 contradicts line 2" in conflicts[0]["detail"] and "title" in conflicts[0]["detail"]
    summary = read_summary(rejects.uri)
    assert (summary["rows"], summary["accepted"], summary["rejects"], summary["notes"]["exact_copies"]) == (
        5,
        2,
        {"duplicate_id": 2},
        1,
    )
    assert examples.split_names == '["train"]' and examples.span == 0


def test_exact_copies_of_events_are_dropped_and_counted(tmp_path):
    """C09: the later play stays; an event that does not say what it is, is a play. C02: ids keep their zeros."""
    data = write_tables(
        tmp_path,
        events="user_id,item_id,timestamp,event\n"
        + "007,0042,1700000000,\n" * 2
        + "007,0042,1700000009,\n7,42,,like\n",
    )
    examples, rejects = run_table_gen(tmp_path, "events", data)
    rows = sorted(read_values(examples, EVENTS), key=lambda row: row.get("timestamp", 0))
    assert rows == [
        {"user_id": "7", "item_id": "42", "event": "like"},
        {"user_id": "007", "item_id": "0042", "timestamp": 1_700_000_000, "event": "play"},
        {"user_id": "007", "item_id": "0042", "timestamp": 1_700_000_009, "event": "play"},
    ]
    summary = read_summary(rejects.uri)
    assert summary["notes"] == {"files": 1, "timestamp_unit": "s", "exact_copies": 1} and summary["rejects"] == {}


def test_users_and_their_declared_columns(tmp_path):
    data = write_tables(tmp_path)
    examples, _ = run_table_gen(tmp_path, "users", data)
    assert read_values(examples, user_columns(data)) == [{"user_id": "u", "age": 3.0}]


def test_a_table_of_which_nothing_is_left_stops_the_run(tmp_path):
    """C11: the file, the reasons and the first rows are named."""
    data = write_tables(tmp_path, items="item_id,duration_s\na,long\nb,short\n")
    with pytest.raises(
        TableError, match=r"items.csv: no row of the catalogue table was accepted: bad_number 2 of 2 rows.*items.csv:2"
    ):
        run_table_gen(tmp_path, "catalogue", data)
