"""The node that reads a table."""

import json
from dataclasses import replace

import apache_beam as beam
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tfx.types.standard_artifacts import Examples
from tfx_bsl.coders import example_coder

from components.config import DataConfig, TableConfig
from components.contract import CATALOGUE, EVENTS, catalogue_columns, user_columns
from components.data_gate import DataGateError, excess_of
from components.rejects import read_summary
from components.settings import to_json
from components.tables.raw import TableError
from components.transform.schemas import catalogue_schema, events_schema
from pipeline.nodes.interactions import Interactions
from tests.components.nodes import artifact, read_rejects, read_split, read_values, run_table_gen
from zhiyin_artifacts import Rejects


def write_tables(folder, items="item_id\na\n", events="user_id,item_id\nu,a\n", users="user_id,age\nu,3\n"):
    for name, text in (("items", items), ("events", events), ("users", users)):
        (folder / f"{name}.csv").write_text(text)
    return DataConfig(
        catalogue=TableConfig(str(folder / "items.csv")),
        events=TableConfig(str(folder / "events.csv")),
        users=TableConfig(str(folder / "users.csv")),
        user_numeric=("age",),
    )


@pytest.mark.parametrize("table", ["events", "users"])
def test_rows_of_forgotten_people_are_rejects_and_no_fault_of_the_table(tmp_path, table):
    """Two of three rows are of somebody who asked to be forgotten: none is used, none is named, the account holds, and
    the run goes on though no other reject would be allowed.
    """
    data = write_tables(
        tmp_path,
        events="user_id,item_id\nÜ,a\nv,a\nÜ,b\n",
        users="user_id,age\nÜ,3\nv,4\nÜ,5\n",
    )
    (tmp_path / "forgotten.jsonl").write_text(json.dumps("Ü") + "\n")
    examples, rejects = run_table_gen(
        tmp_path, table, replace(data, max_reject_share=0.0), str(tmp_path / "forgotten.jsonl")
    )
    rows = read_values(examples, EVENTS if table == "events" else user_columns(data))
    assert [row["user_id"] for row in rows] == ["v"]
    assert [(reject["line"], reject["reason"]) for reject in read_rejects(rejects)] == [
        (2, "forgotten"),
        (4, "forgotten"),
    ]
    assert "Ü" not in json.dumps(read_rejects(rejects), ensure_ascii=False)
    assert read_summary(rejects.uri)["rejects"] == {"forgotten": 2}
    assert excess_of(table, rejects.uri, 0.0) == []


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


def test_the_users_table_has_its_limits_too(tmp_path):
    """D13: half of its rows are broken."""
    data = write_tables(tmp_path, users="user_id,age\nu,3\nv,old\nw,5\nx,young\n")
    with pytest.raises(
        DataGateError, match=r"users: 50.0% of the rows are rejects, max_reject_share is 5.0%.*users.csv:3"
    ):
        run_table_gen(tmp_path, "users", data)
    examples, rejects = run_table_gen(tmp_path / "lenient", "users", replace(data, max_reject_share=0.5))
    assert len(read_values(examples, user_columns(data))) == 2 and len(read_rejects(rejects)) == 2


def test_what_the_reader_accepts_the_schema_accepts(tmp_path):
    """D09, D10: no single row of these ends the run; what is wrong with them is told with their lines."""
    items = "item_id,duration_s,published_at,year\na,-1,0000-00-00,1\nb,0,0000,nan\nc,nan,1810,-1\nd,5,2050-01-01,0\n"
    events = (
        "user_id,item_id,timestamp,event,value,split\nu,a,1700000000,teleport,nan,\nu,b,1700000001,play,-3,holdout\n"
    )
    data = replace(write_tables(tmp_path, items, events), numeric=("year",))
    for table, columns, schema in (
        ("catalogue", catalogue_columns(data), catalogue_schema(data)),
        ("events", EVENTS, events_schema()),
    ):
        examples, rejects = run_table_gen(tmp_path, table, data)
        assert not read_rejects(rejects)
        batch = [example.SerializeToString() for example in read_split(examples, "train")]
        table_of_examples = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch(batch)
        statistics = stats_impl.generate_statistics_in_memory(table_of_examples, stats_options.StatsOptions())
        assert not tfdv.validate_statistics(statistics, schema).anomaly_info, columns


def test_events_keep_their_places_and_later_rejects_name_them(tmp_path):
    """D05, D10, D16: unknown items, kinds without a rule and absent times, by file and line; copies do not count
    twice."""
    lines = [f"u,a,{1_700_000_000 + n},play" for n in range(20)]
    lines += ["u,gone,1700000000,play", "u,a,1700000000,teleport", "u,a,,play", "u,a,4081363200,play", lines[0]]
    data = write_tables(tmp_path, events="user_id,item_id,timestamp,event\n" + "\n".join(lines) + "\n")
    data = replace(data, max_reject_share=0.5)
    events, rejects = run_table_gen(tmp_path, "events", data)
    assert [(row["line"], row["reason"]) for row in read_rejects(rejects)] == [(25, "bad_time")]
    assert read_summary(rejects.uri)["files"] == {
        str(tmp_path / "events.csv"): {"rows": 25, "accepted": 23, "rejected": 1, "exact_copies": 1}
    }
    catalogue, catalogue_rejects = run_table_gen(tmp_path, "catalogue", data)
    sequences, later = artifact(Examples, tmp_path / "sequences"), artifact(Rejects, tmp_path / "later")
    Interactions.test_call(
        events=events,
        catalogue=catalogue,
        event_rejects=rejects,
        catalogue_rejects=catalogue_rejects,
        sequences=sequences,
        rejects=later,
        data=to_json(data),
        code="",
        beam_pipeline=beam.Pipeline(),
    )
    found = [(row["source"], row["line"], row["reason"]) for row in read_rejects(later)]
    assert found == [
        (str(tmp_path / "events.csv"), 22, "unknown_item"),
        (str(tmp_path / "events.csv"), 23, "unknown_event"),
        (str(tmp_path / "events.csv"), 24, "missing_timestamp"),
    ]
