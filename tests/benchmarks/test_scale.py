"""The tables that the scale benchmark makes, its account of a run, and that the line really runs on them."""

import subprocess
import sys

import pyarrow.parquet
import pytest

from benchmarks import scale, scale_tables
from benchmarks.goals import row_of
from benchmarks.scale_memory import Watched, watched
from components.settings import SettingsError
from pipeline.run_history import NodeRecord


def test_made_tables_have_the_proportions_of_movielens(tmp_path, monkeypatch):
    """Chunks go on where the last ended; few people and items have most ratings; tastes differ; all items are known."""
    monkeypatch.setattr(scale_tables, "ROWS_AT_ONCE", 20_000)
    catalogue, events = (
        pyarrow.parquet.read_table(path).to_pandas() for path in scale_tables.make(tmp_path, 50_000, 2_000)
    )
    assert (len(catalogue), len(events)) == (2_000, 50_000) and catalogue["item_id"].is_unique
    assert set(events["item_id"].astype(str)) <= set(catalogue["item_id"])
    assert events["timestamp"].is_monotonic_increasing and set(events["value"]) == {1, 2, 3, 4, 5}
    per_person, per_item = events["user_id"].value_counts(), events["item_id"].value_counts()
    assert 300 < len(per_person) < 360 and 40 < per_person.median() < 90 and per_person.max() < 6_000
    assert per_item.head(200).sum() > 0.3 * len(events) and per_item.iloc[0] < 0.03 * len(events)
    own = events.groupby("user_id")["item_id"].agg(lambda items: (items % 10).value_counts(normalize=True).iloc[0])
    assert own.mean() > 0.5
    favourite = (events["item_id"] % 10).groupby(events["user_id"]).transform(lambda tastes: tastes.mode()[0])
    likes = events.groupby(events["item_id"] % 10 == favourite)["value"].mean()
    assert likes[True] > likes[False] + 0.5


@pytest.mark.parametrize(
    ("case", "sizes"), [("100k", (100_000, 26_744)), ("20M", (20_000_000, 26_744)), ("1M x 10k", (1_000_000, 10_000))]
)
def test_a_case_says_its_sizes(case, sizes):
    assert scale.sizes_of(case) == sizes


@pytest.mark.parametrize("case", ["", "1M x", "many", "1M x 100k x 3"])
def test_what_is_no_case_is_refused(case):
    with pytest.raises(SettingsError, match="events x items"):
        scale.sizes_of(case)


def test_exponents_are_those_of_the_largest_case_and_the_smallest_that_is_near_it():
    """Linear in events, whatever a size between or far below says; quadratic in items; a node seen once has none."""
    seconds = {"100k": 500.0, "1M": 10.0, "10M": 17.0, "20M": 200.0, "1M x 100k": 10 * (100_000 / 26_744) ** 2}
    rows = [row_of(case, "Trainer", "cpu_seconds", value) for case, value in seconds.items()]
    rows += [row_of("1M", "Once", "cpu_seconds", 1.0), scale.row_of("1M", "Trainer", "seconds", 1.0)]
    (of_events,), (of_items,) = (list(scale.exponents(axis, rows)) for axis in (scale.EVENTS, scale.ITEMS))
    assert (of_events["case"], of_events["contender"]) == ("growth with events", "Trainer")
    assert (of_events["value"], of_items["value"]) == (pytest.approx(1), pytest.approx(2))


def test_the_costs_of_a_run_leave_out_what_nobody_had(tmp_path):
    """Two nodes side by side; in the second one's time everything stood still for 30 s."""
    (tmp_path / "part").write_bytes(bytes(3_000_000))
    nodes = {
        "Read": NodeRecord("Read", 100, 10, "done", 7.0, 500_000_000, {"examples": tmp_path}),
        "Train": NodeRecord("Train", 105, 60, "done", 20.0, 900_000_000, {}),
    }
    rows = scale.rows_of("1M", nodes, Watched(1200.0, [(120, 150)]), 80.0)
    found = {(row["contender"], row["metric"]): row["value"] for row in rows}
    assert [found["ours", metric] for metric in scale.COSTS] == [50, 27, 1200, 3]
    assert [found["Train", metric] for metric in scale.COSTS] == [30, 20, 900, 0]
    assert found["Read", "seconds"] == 10


def test_a_process_is_watched_with_its_children():
    """The child holds 200 MB, its parent next to nothing; a pause of the watch itself is told apart."""
    child = "import time; held = b'x' * 200_000_000; time.sleep(4)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    seen = watched(subprocess.Popen([sys.executable, "-c", parent]), silent_after_s=60)
    assert 200 < seen.peak_mb < 400 and not seen.silent
    seen = watched(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"]), silent_after_s=0.0)
    assert seen.lost_s() > 0.5 and seen.lost_s(0, 1) == 0


def test_a_small_case_is_drawn(tmp_path):
    rows = [row_of(case, name, "cpu_seconds", 5.0) for case in ("100k", "1M") for name in ("ours", "Train")]
    scale.draw(rows, tmp_path / "scale.svg")
    drawn = (tmp_path / "scale.svg").read_text()
    assert scale.WHOLE in drawn and "Train" in drawn and "processor seconds" in drawn


@pytest.mark.slow
def test_the_line_runs_on_made_tables_to_a_pushed_model(tmp_path):
    """Measured once at this commit; asked for by name it would be measured anew."""
    rows = scale.run(tmp_path, ["3k x 400"])
    values = {(row["contender"], row["metric"]): row["value"] for row in rows}
    assert values["ours", "peak_mb"] > 500 and values["ours", "seconds"] > 5
    assert values["RetrievalTrainer", "cpu_seconds"] > 1 and values["EventGen", "mb_written"] > 0.01
    assert values["ours", "cpu_seconds"] > values["RetrievalTrainer", "cpu_seconds"]
    assert [path.name for path in tmp_path.iterdir()] == ["3kx400.json"]
