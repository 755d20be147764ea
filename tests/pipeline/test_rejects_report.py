"""What a run says of the rows that it left out."""

import csv
import json
import tracemalloc

from components.account import account_line, remarks
from pipeline.console import StageLines
from pipeline.local_runner import Stage
from pipeline.rejects_report import rejects_line, write_rejects
from tests.components.nodes import artifact
from zhiyin_artifacts import Rejects

SUMMARY = {
    "rows": 1005,
    "accepted": 1000,
    "rejects": {"bad_time": 2, "bad_id": 1},
    "files": {"a.csv": {"rows": 1000, "accepted": 1000}, "b.csv": {"rows": 5, "rejected": 3, "exact_copies": 2}},
    "notes": {
        "exact_copies": 2,
        "ignored_columns": ["Titel", "colour"],
        "did_you_mean": {"Titel": "title"},
        "near_misses": {"item_id": "Item ID"},
        "cells": {"creator: 'NULL', read as text; if it says nothing, state it in empty_values": 1234},
    },
}


def stage(folder, name, rejects, summary=None):
    """A finished stage that left these rejects."""
    folder.mkdir()
    (folder / "rejects.jsonl").write_text("".join(json.dumps(reject) + "\n" for reject in rejects))
    (folder / "summary.json").write_text(json.dumps(summary or SUMMARY))
    return Stage(name, 1, 9, 1.0, False, {"rejects": [artifact(Rejects, folder)]})


def reject(line, **more):
    return {
        "stage": "tables",
        "source": "b.csv",
        "line": line,
        "item_id": None,
        "reason": "bad_time",
        "detail": "d",
    } | more


def test_the_rejects_of_all_stages_are_one_table(tmp_path):
    """By stage, file and line; line ends and commas in details are cells of a table; a run without rejects leaves
    none."""
    stages = [
        stage(tmp_path / "1", "CatalogGen", [reject(12), reject(3, detail="got 'a,\u2028b\n'")]),
        stage(tmp_path / "2", "MediaFeatures", [reject(None, stage="media", item_id="7", source="x.mp3")]),
        Stage("DataGate", 3, 9, 1.0, False, {}),
    ]
    assert write_rejects(stages, tmp_path) == 3
    with (tmp_path / "rejects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["source"], row["line"], row["item_id"]) for row in rows] == [
        ("tables", "b.csv", "3", ""),
        ("tables", "b.csv", "12", ""),
        ("media", "x.mp3", "", "7"),
    ]
    assert rows[0]["detail"] == "got 'a,\u2028b\n'"
    assert rejects_line(tmp_path) == f"3 rejects, each with its place and reason: {tmp_path / 'rejects.csv'}"
    assert write_rejects([], tmp_path) == 0 and rejects_line(tmp_path) == ""


def test_the_table_is_written_stage_by_stage(tmp_path):
    """Its memory is that of one stage's rejects."""
    stages = [stage(tmp_path / str(number), "CatalogGen", map(reject, range(4_000))) for number in range(5)]
    tracemalloc.start()
    try:
        assert write_rejects(stages, tmp_path) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_a_stage_prints_its_account_and_what_its_owner_should_know(tmp_path, capsys):
    StageLines().done(stage(tmp_path / "1", "CatalogGen", []))
    first, *rest = capsys.readouterr().out.splitlines()
    assert "1,000 of 1,005 rows in 2 files; rejects: bad_id 1, bad_time 2; exact copies 2" in first
    assert [line.strip() for line in rest] == [
        "the column Item ID is read as item_id",
        "the column Titel is not read; did you mean title?",
        "columns that are not read: colour",
        "creator: 'NULL', read as text; if it says nothing, state it in empty_values (1,234 cells)",
    ]


def test_a_table_that_is_as_expected_is_one_line():
    summary = {"rows": 5, "accepted": 5, "rejects": {}, "notes": {"files": 1, "timestamp_unit": "s"}}
    assert account_line(summary) == "5 of 5 rows" and remarks(summary) == []
