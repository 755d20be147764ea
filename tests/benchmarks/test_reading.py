"""The events that the reading benchmark makes, and that both of its nodes really run on them."""

import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks import reading


def test_made_events_are_the_same_in_both_formats(tmp_path, monkeypatch):
    """In time's order across chunks, a few users and items have most of them, and every item is in the catalogue."""
    monkeypatch.setattr(reading, "CHUNK", 4000)
    csv, parquet = (reading.make(tmp_path / ending, 20_000, ending) for ending in ("csv", "parquet"))
    made = pyarrow.parquet.read_table(parquet)
    assert made.num_rows == 20_000 and pyarrow.csv.read_csv(csv).cast(made.schema).equals(made)
    frame = made.to_pandas()
    assert frame["timestamp"].is_monotonic_increasing
    assert frame["timestamp"].min() >= reading.FIRST_S and frame["timestamp"].max() <= reading.LAST_S
    per_user = frame["user_id"].value_counts()
    assert len(per_user) > 100 and per_user.head(len(per_user) // 10).sum() > 20_000 * 0.25
    items = (csv.parent / reading.ITEMS).read_text().splitlines()[1:]
    assert set(frame["item_id"].astype(str)) <= set(items)


@pytest.mark.slow
def test_a_table_goes_through_both_nodes(tmp_path):
    table = reading.make(tmp_path / "t", 3000, "parquet")
    costs = reading.through_the_nodes(table, reading.ROOT)
    assert costs["accepted"] > 2900 and costs["cpu_seconds"] > 0 and costs["peak_mb"] > 100
    rows = reading._rows("1M csv", "ours", 3000, costs)
    assert {row["metric"] for row in rows} >= {goal["metric"] for goal in reading.GOALS}


def test_nodes_that_fail_say_why(tmp_path):
    table = reading.make(tmp_path / "t", 1000, "csv")
    table.write_text("nothing\n1\n")
    with pytest.raises(RuntimeError, match="no column user_id"):
        reading.through_the_nodes(table, reading.ROOT)
