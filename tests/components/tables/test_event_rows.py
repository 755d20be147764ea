"""Events become the Examples, rejects and numbers that they became row by row."""

import random
from collections import Counter, defaultdict

import pyarrow as pa
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.account import check_account
from components.config import DataConfig, TableConfig
from components.contract import EVENTS
from components.example_records import serialized_rows
from components.examples import bytes_feature, ints_feature, row_example
from components.rejects import read_summary
from components.tables.duplicates import _keep_first
from components.tables.event_rows import DEFAULT_EVENT, first_of_each
from components.tables.examples import serialized
from components.tables.inspection import inspect_table
from components.tables.readers import Row, forgotten_reject, read_rows
from tests.components.nodes import read_rejects, read_split, run_table_gen
from tests.components.tables.reading import write

TYPES = {"timestamp": pa.int64(), "value": pa.float64(), "source_line": pa.int64()}
VALUES = st.none() | st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-12, 0.1, 1e-50, 3.4e38])


def one_row_after_the_other(rows):
    """(bytes of Examples with places, places of copies, rejects) of rows: as a GroupByKey of them gives."""
    groups = defaultdict(list)
    for row in rows:
        groups[serialized(row, EVENTS)].append(row)
    kept, copies, rejects = [], [], []
    for key, rows_of_key in groups.items():
        for found in _keep_first(key, rows_of_key):
            if isinstance(found, Row):
                example = row_example(found.values, EVENTS)
                example.features.feature["source_file"].CopyFrom(bytes_feature([found.source]))
                example.features.feature["source_line"].CopyFrom(ints_feature([found.line]))
                kept.append(example.SerializeToString(deterministic=True))
            elif found.tag == "copies":
                copies.append((found.value.source, found.value.line))
            else:
                rejects.append(found.value)
    return sorted(kept), sorted(copies), sorted(map(repr, rejects))


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "user_id": st.sampled_from("uvü"),
                "item_id": st.sampled_from(["a", "b"]),
                "timestamp": st.none() | st.sampled_from([0, 1, 127, 128, 1_700_000_000, 2**40]),
                "event": st.sampled_from(["play", "like"]),
                "value": VALUES,
                "split": st.none() | st.sampled_from(["train", "test"]),
                "source_file": st.sampled_from(["b.csv", "a.csv", "ä.csv"]),
            }
        ),
        min_size=1,
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=300)
def test_the_first_of_equal_rows_stays(found, rng):
    """Also numbers that only float64 tells apart, which contradict, and zeros of either sign, which do not."""
    rows = [{**row, "source_line": line} for line, row in enumerate(rng.sample(found, len(found)), 2)]
    rng.shuffle(rows)
    table = pa.table({name: pa.array([row[name] for row in rows], TYPES.get(name, pa.string())) for name in rows[0]})
    kept = first_of_each(table)
    places = zip(*(kept.copies[name].to_pylist() for name in ("source_file", "source_line")))
    expected = one_row_after_the_other(map(_typed, rows))
    assert (sorted(serialized_rows(kept.rows)), sorted(places), sorted(map(repr, kept.rejects))) == expected


def _typed(cells):
    values = {name: value for name, value in cells.items() if value is not None and not name.startswith("source")}
    return Row(cells["source_file"], cells["source_line"], values)


def test_the_node_s_examples_rejects_and_account(tmp_path):
    """Of three files with copies within and across them, faults of every kind, and somebody who was forgotten."""
    rng = random.Random(3)
    names = ("user_id", "item_id", "timestamp", "event", "value")
    cells = (
        [*(f"user {n}" for n in range(9)), "Öl", ""],
        [*(f"i{n}" for n in range(5)), "nan"],
        [*(str(1_700_000_000 + n) for n in range(5)), "soon", ""],
        ["play", "", "like"],
        ["", "1.5", "0.1", "x"],
    )
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(3):
        lines = [",".join(map(rng.choice, cells)) for _ in range(1500)]
        lines[7:9] = ['user 1,"i 1",1700000000,play,', "too,short"]
        write(folder / f"{part}.csv", "\n".join([",".join(names), *lines]))
    forgotten = write(tmp_path / "forgotten", '"user 3"\n"nobody"\n')
    data = DataConfig(catalogue=TableConfig("c"), events=TableConfig(str(folder)), max_reject_share=1.0)
    examples, rejects = run_table_gen(tmp_path, "events", data, str(forgotten))

    facts = inspect_table(data.events, EVENTS)
    found = [row for path in facts.files for row in read_rows(path, EVENTS, facts)]
    rows = [row for row in found if isinstance(row, Row)]
    allowed = [row for row in rows if row.values["user_id"] != "user 3"]
    named = [row._replace(values={"event": DEFAULT_EVENT, **row.values}) for row in allowed]
    kept, copies, contradictions = one_row_after_the_other(named)
    expected = [row for row in found if not isinstance(row, Row)]
    expected += [forgotten_reject(row.source, row.line) for row in rows if row not in allowed]
    assert sorted(example.SerializeToString(deterministic=True) for example in read_split(examples, "train")) == kept
    assert sorted(map(repr, read_rejects(rejects))) == sorted(map(repr, expected)) and not contradictions

    summary = read_summary(rejects.uri)
    check_account(summary)
    assert summary["rows"] == len(found) == 4500 and summary["accepted"] == len(kept) < len(allowed)
    assert summary["rejects"] == Counter(reject["reason"] for reject in expected)
    assert summary["rejects"]["forgotten"] > 200 and summary["rejects"]["field_count"] == 3
    assert summary["notes"]["exact_copies"] == len(copies)
    assert summary["notes"]["cells"] == Counter(note for row in rows for note in row.notes)
    assert {path: counts["rows"] for path, counts in summary["files"].items()} == dict.fromkeys(facts.files, 1500)


def test_integers_of_every_length_are_written_as_protobuf_does():
    values = [None, 0, 1, 127, 128, 2**31, 2**62, -1, -(2**63)]
    records = serialized_rows(pa.table({"number": pa.array(values, pa.int64())}))
    expected = [
        tf.train.Example(
            features=tf.train.Features(feature={"number": ints_feature([value])} if value is not None else {})
        )
        for value in values
    ]
    assert records[1:] == [example.SerializeToString(deterministic=True) for example in expected[1:]]
    assert tf.train.Example.FromString(records[0]) == expected[0]
    assert serialized_rows(pa.table({"number": pa.array([], pa.int64())})) == []
