"""Examples and rejects on disk, and fingerprints of files."""

import json
import os
import tracemalloc

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts import WriteRecords, file_fingerprint
from components.config import DataConfig, TableConfig
from components.contract import catalogue_columns
from components.example_tables import ReadTables
from components.examples import row_example, row_values
from components.record_files import WriteRecordLists
from components.rejects import WriteRejects, read_summary, sample_rejects

COLUMNS = catalogue_columns(DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), embeddings={"clip": 2}))
FLOATS = st.floats(-1e6, 1e6, width=32)
VALUES = {
    "id": st.text(st.characters(blacklist_categories=("Cs",)), min_size=1),
    "uri": st.just("a/b.mp3"),
    "text": st.text(st.characters(blacklist_categories=("Cs",)), min_size=1),
    "category": st.just("film"),
    "list": st.lists(st.text("añ日", min_size=1), min_size=1, max_size=3),
    "number": FLOATS,
    "time": st.integers(-(2**40), 2**40),
    "embedding": st.lists(FLOATS, min_size=2, max_size=2),
}


@given(st.fixed_dictionaries({}, optional={column.name: VALUES[column.kind] for column in COLUMNS}))
def test_values_survive_an_example_and_absent_ones_stay_absent(values):
    example = row_example(values, COLUMNS)
    assert row_values(example, COLUMNS) == values
    assert set(example.features.feature) == {name.replace(":", "_") for name in values}


def test_examples_and_rejects_are_read_back(tmp_path):
    """An empty split is an empty file that reads as nothing; records that are written as lists are the same records."""
    rows = [
        {"item_id": "a", "title": "é", "duration_s": 0.5, "published_at": -(2**40)},
        {"item_id": "b", "title": None, "duration_s": None, "published_at": None},
        {"item_id": "c" * 1000, "title": "", "duration_s": 0.0, "published_at": 0},
    ]
    given_rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    records = [row_example(row, COLUMNS).SerializeToString() for row in given_rows]
    types = {"item_id": pa.string(), "title": pa.string(), "duration_s": pa.float32(), "published_at": pa.int64()}
    reject = {"stage": "s", "source": "f", "line": 2, "item_id": None, "reason": "bad", "detail": "é"}
    with beam.Pipeline() as pipeline:
        some = pipeline | "Some" >> beam.Create(records)
        none = pipeline | "None" >> beam.Create([])
        _ = some | "WriteSome" >> WriteRecords(str(tmp_path / "some"))
        _ = none | "WriteNone" >> WriteRecords(str(tmp_path / "none"))
        lists = pipeline | "Lists" >> beam.Create([records[:2], records[2:], []])
        _ = lists | "WriteLists" >> WriteRecordLists(str(tmp_path / "lists"))
        _ = none | "WriteNoLists" >> WriteRecordLists(str(tmp_path / "no lists"))
        rejects = pipeline | "Rejects" >> beam.Create([reject, {**reject, "line": 1}])
        _ = {"accepted": some, "rejects": rejects, "exact_copies": some, "other": none} | WriteRejects(
            str(tmp_path / "r"), {"unit": "s"}
        )
    with beam.Pipeline() as pipeline:
        for name, expected in (("some", rows), ("none", []), ("lists", rows), ("no lists", [])):
            tables = pipeline | f"Read {name}" >> ReadTables(str(tmp_path / name), types)
            found = tables | f"Rows of {name}" >> beam.FlatMap(lambda table: table.to_pylist())
            assert_that(found, equal_to(expected), label=name)
    assert read_summary(str(tmp_path / "r")) == {
        "rows": 8,
        "accepted": 3,
        "rejects": {"bad": 2},
        "notes": {"unit": "s", "exact_copies": 3},
        "files": {},
    }
    assert [reject["line"] for reject in sample_rejects(str(tmp_path / "r"), 5)] == [1, 2]


def test_a_few_rejects_of_many_take_little_memory(tmp_path):
    """They are named where most of a table is rejected, too."""
    place = {"stage": "s", "source": "f", "item_id": None, "reason": "bad", "detail": "d"}
    with (tmp_path / "rejects.jsonl").open("w") as file:
        file.writelines(json.dumps({**place, "line": line}) + "\n" for line in range(20_000, 0, -1))
    tracemalloc.start()
    try:
        found = sample_rejects(str(tmp_path), 3)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [reject["line"] for reject in found] == [1, 2, 3] and peak_bytes < 1 << 20


def test_the_fingerprint_sees_every_edit_and_no_move(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("12")
        os.utime(folder / name, ns=(1, 1_000_000_000))
    seen = {file_fingerprint([f"{folder}/*.csv"])}

    def changed(edit):
        edit()
        after = file_fingerprint([f"{folder}/*.csv"])
        new = after not in seen
        seen.add(after)
        return new

    assert not changed(lambda: None)
    assert changed(lambda: os.utime(folder / "a.csv", ns=(1, 1_000_000_001))), "an edit within the same second"
    assert changed(lambda: os.utime(folder / "b.csv", ns=(1, 1_000_000_002)))
    assert changed(
        lambda: [os.utime(folder / n, ns=(1, 1_000_000_000 + i)) for n, i in (("a.csv", 2), ("b.csv", 1))]
    ), "times swapped"
    assert changed(lambda: (folder / "b.csv").rename(folder / "c.csv"))
    assert changed(lambda: (folder / "d.csv").write_text("")), "added"
    assert not changed(lambda: (folder / "other.txt").write_text(""))
    before = file_fingerprint([f"{folder}/*.csv"])
    folder.rename(tmp_path / "two")
    assert file_fingerprint([f"{tmp_path}/two/*.csv"]) == before
    assert file_fingerprint([f"{tmp_path}/two/a.csv", f"{tmp_path}/missing"]) != file_fingerprint([])


def test_two_files_of_one_name_are_two(tmp_path):
    """Their contents exchanged is a change; brackets in a name are no pattern."""
    for folder, text in (("a", "1"), ("b", "22")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x [live].mp3").write_text(text)
        os.utime(tmp_path / folder / "x [live].mp3", ns=(1, 1))
    patterns = [str(tmp_path / folder / "x [live].mp3") for folder in "ab"]
    before = file_fingerprint(patterns)
    assert before != file_fingerprint([]) and before == file_fingerprint(reversed(patterns))
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert file_fingerprint(patterns) != before
