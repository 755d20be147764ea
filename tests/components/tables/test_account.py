"""The account of a table adds up, whatever the damage, and what is accepted is what a plain reader gives."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import apache_beam as beam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.table_damage import DamagedTable, make
from benchmarks.table_judge import judge
from components.account import AccountError, check_account
from components.config import DataConfig, TableConfig
from components.rejects import read_summary
from components.tables import csv_records
from components.tables.readers import ReadTable
from tests.components.nodes import read_rejects, run_table_gen
from tests.components.tables.reading import write


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_every_line_is_accounted_for_and_every_row_is_a_plain_reader_s(rng):
    """D03, in every format: csv, tsv, jsonl, json, parquet, gzipped or not, damaged at random places."""
    table = make(rng)
    with TemporaryDirectory() as folder:
        outcome = judge(table, Path(folder))
    assert outcome.fault == "", (table.name, table.content)


CSV = DamagedTable("table.csv", b"item_id,title\n1,a\n2,b\n", {"separator": ","}, frozenset(("1,a", "2,b")))


def test_the_judge_sees_what_is_lost_made_up_or_changed(tmp_path, monkeypatch):
    """The oracle of the test above is no rubber stamp."""
    assert judge(CSV, tmp_path).accepted == 2 and judge(CSV, tmp_path).fault == ""

    def spoiled(change):
        def records(lines, separator, quotes):
            yield from change(list(csv_records.records(lines, separator, quotes)))

        monkeypatch.setattr("components.tables.formats.records", records)
        return judge(CSV, tmp_path).fault

    assert "are lost: [3]" in spoiled(lambda found: found[:-1])
    assert "lost: [2]" in spoiled(lambda found: [found[0], found[2]])
    assert "title: got 'z'" in spoiled(lambda found: [*found[:2], found[2]._replace(fields=["2", "z"])])
    assert "told twice" in spoiled(lambda found: [*found, found[-1]])
    monkeypatch.setattr("components.tables.formats.records", lambda *_: 1 // 0)
    assert "ZeroDivisionError" in judge(CSV, tmp_path).fault


def test_the_node_s_account_adds_up_for_each_file(tmp_path):
    """Thirty damaged files of all formats are one table; the summary says of each what the reader saw in it."""
    rng, tables = random.Random(7), []
    folder = tmp_path / "parts"
    folder.mkdir()
    while len(tables) < 30:
        table = make(rng)
        if table.settings["separator"] == "," and judge(table, tmp_path).refused == "":
            tables.append(table)
            write(folder / f"{len(tables):02}-{table.name}", table.content)
    data = DataConfig(catalogue=TableConfig(str(folder)), events=TableConfig("e"), max_reject_share=1.0)
    _, rejects = run_table_gen(tmp_path, "catalogue", data)
    summary = read_summary(rejects.uri)
    check_account(summary)
    assert len(summary["files"]) == len([table for table in tables if sum(judge(table, tmp_path)[:2])])
    assert summary["rows"] == sum(counts["rows"] for counts in summary["files"].values())
    assert sum(counts.get("rejected", 0) for counts in summary["files"].values()) == len(read_rejects(rejects))
    for number, table in enumerate(tables, 1):
        outcome = judge(table, tmp_path)
        counts = summary["files"].get(str(folder / f"{number:02}-{table.name}"), {})
        assert counts.get("rows", 0) == outcome.accepted + outcome.rejected


def test_an_account_that_does_not_add_up_is_an_error():
    for counts in ({"rows": 3, "accepted": 2}, {"rows": 2, "accepted": 2, "rejected": 1}, {"accepted": 1}):
        with pytest.raises(AccountError, match="b.csv: the account does not add up"):
            check_account(
                {"files": {"a.csv": {"rows": 5, "accepted": 3, "rejected": 1, "exact_copies": 1}, "b.csv": counts}}
            )


class _LosesRow2(ReadTable):
    def expand(self, pipeline):
        read = super().expand(pipeline)
        rows = read.rows | "Lose" >> beam.Filter(lambda row: row.line != 3)
        return SimpleNamespace(rows=rows, rejects=read.rejects, notes=read.notes, counts=read.counts)


def test_a_row_that_is_lost_on_the_way_ends_the_run(tmp_path, monkeypatch):
    write(tmp_path / "items.csv", "item_id\n1\n2\n3\n")
    data = DataConfig(catalogue=TableConfig(str(tmp_path / "items.csv")), events=TableConfig("e"))
    monkeypatch.setattr("components.tables.examples.ReadTable", _LosesRow2)
    with pytest.raises(AccountError, match="items.csv: the account does not add up: 3 rows, but 2 accepted"):
        run_table_gen(tmp_path, "catalogue", data)
