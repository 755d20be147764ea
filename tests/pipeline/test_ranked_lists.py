"""Tables of everybody's lists: the same rows in both formats, in bounded memory, whole or not at all."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import ranked_lists
from pipeline.local_model import RankedList

ENDINGS = pytest.mark.parametrize("ending", ranked_lists.ENDINGS)


def lists(count: int, k: int = 100) -> Iterator[RankedList]:
    """Lists of k items, every seventh of a third as many."""
    for user in range(count):
        places = range(k if user % 7 else k // 3)
        yield RankedList(f"ü,{user}", [f"i{user}-{place}" for place in places], [1 / (3 + place) for place in places])


@ENDINGS
def test_the_rows_are_those_of_the_lists(tmp_path: Path, monkeypatch, ending: str) -> None:
    monkeypatch.setattr(ranked_lists, "ROWS_AT_ONCE", 25)
    output = tmp_path / "new" / f"lists{ending}"
    assert ranked_lists.write_table(lists(20, 9), output, total=20) == (17 * 9 + 3 * 3, 3)
    found = pd.read_csv(output) if ending == ".csv" else pd.read_parquet(output)
    rows = [row for one in lists(20, 9) for row in zip([one.key] * 9, range(1, 10), one.item_ids, one.scores)]
    assert list(found.columns) == ["user_id", "rank", "item_id", "score"]
    assert [*zip(found["user_id"], found["rank"], found["item_id"])] == [row[:3] for row in rows]
    np.testing.assert_array_equal(found["score"].astype(np.float32), np.float32([row[3] for row in rows]))
    assert ending == ".csv" or (found["rank"].dtype, found["score"].dtype) == ("int32", "float32")
    assert [path.name for path in output.parent.iterdir()] == [output.name]


@ENDINGS
def test_nobody_is_a_table_without_rows(tmp_path: Path, ending: str) -> None:
    assert ranked_lists.write_table([], tmp_path / f"lists{ending}", total=0) == (0, 0)
    found = (pd.read_csv if ending == ".csv" else pd.read_parquet)(tmp_path / f"lists{ending}")
    assert list(found.columns) == ["user_id", "rank", "item_id", "score"] and found.empty


@ENDINGS
def test_memory_does_not_grow_with_the_people(tmp_path: Path, monkeypatch, ending: str) -> None:
    monkeypatch.setattr(ranked_lists, "ROWS_AT_ONCE", 2000)
    ranked_lists.write_table(lists(30), tmp_path / f"few{ending}", total=30)  # imports what it needs
    peaks = []
    for count in (100, 1000):
        tracemalloc.start()
        ranked_lists.write_table(lists(count), tmp_path / f"lists{ending}", total=count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@ENDINGS
def test_lists_that_end_in_a_fault_leave_what_was_there(tmp_path: Path, monkeypatch, ending: str) -> None:
    monkeypatch.setattr(ranked_lists, "ROWS_AT_ONCE", 100)
    output = tmp_path / f"lists{ending}"
    output.write_text("of yesterday")

    def broken() -> Iterator[RankedList]:
        yield from lists(10)
        raise RuntimeError("the model is gone")

    with pytest.raises(RuntimeError, match="the model is gone"):
        ranked_lists.write_table(broken(), output, total=20)
    assert output.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [output]
