"""Lists that were shown are found by person, item and time."""

import gzip
import json

import numpy as np
import pytest

from components.datasets.exposures import read_exposures

ITEM_IDS = ["a", "b", "c", "d"]


def write(path, lists):
    """lists: (request_id, user_id, timestamp, item ids in the order shown), written backwards."""
    rows = [
        {"request_id": request, "user_id": user, "timestamp": time_s, "item_id": item, "position": place}
        for request, user, time_s, items in lists
        for place, item in enumerate(items, 1)
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in reversed(rows)).encode()))
    return str(path)


@pytest.fixture
def shown(tmp_path):
    lists = [("r1", "u", 100, "abc"), ("r2", "u", 200, "cb"), ("r3", "v", 150, "d"), ("r4", "u", 300, "dxa")]
    return read_exposures(write(tmp_path / "shown.jsonl.gz", lists), ITEM_IDS)


def test_the_latest_list_before_the_event_that_holds_the_item_is_found_in_its_order(shown):
    assert len(shown) == 4
    assert found(shown, 1, 250.0, 1000.0) == [(2, 1), (1, 2)]
    assert found(shown, 0, 250.0, 1000.0) == [(0, 1), (1, 2), (2, 3)], "the later list does not hold it"
    assert found(shown, 0, 300.0, 0.0) == [(3, 1), (0, 3)], "x is in no catalogue"


def found(shown, item, time_s, window_s, user="u"):
    """Items and positions of the list."""
    return list(zip(*(part.tolist() for part in shown.holding(user, item, time_s, window_s))))


def shown_lines(path, *rows):
    """A line for each (user_id, item_id, position), of one list."""
    lines = [
        json.dumps({"request_id": 1, "user_id": user, "item_id": item, "position": place, "timestamp": 100})
        for user, item, place in rows
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return str(path)


def test_whole_numbers_are_ids_as_in_the_tables(tmp_path):
    shown = read_exposures(shown_lines(tmp_path / "a.gz", (42, 7, 1), ("42", "8", 2), (7, "8", 1)), ["7", "8"])
    assert found(shown, 0, 100.0, 1.0, "42") == [(0, 1), (1, 2)]
    assert found(shown, 1, 100.0, 1.0, "7") == [(1, 1)]


def test_positions_are_those_of_the_file_however_often_it_tells_them(tmp_path):
    """A second page, and the same lines twice: an item counts once, where it was seen first."""
    rows = [("u", "a", 21), ("u", "c", 25), ("u", "b", 22)]
    for number, each in enumerate((rows, rows + rows, [*rows, ("u", "c", 90)])):
        shown = read_exposures(shown_lines(tmp_path / f"{number}.gz", *each), ITEM_IDS)
        assert found(shown, 2, 100.0, 1.0) == [(0, 21), (1, 22), (2, 25)]


@pytest.mark.parametrize("row", [(True, "a", 1), (1.5, "a", 1), ("u", None, 1), ("u", "a", 0), ("u", "a", None)])
def test_what_is_no_id_and_no_position_is_refused(tmp_path, row):
    with pytest.raises(ValueError, match=r"a.gz: line 1: got no shown item"):
        read_exposures(shown_lines(tmp_path / "a.gz", row), ITEM_IDS)


@pytest.mark.parametrize(
    ("user", "item", "time_s", "window_s"),
    [("u", 0, 250.0, 149.0), ("u", 0, 99.0, 1000.0), ("v", 0, 200.0, 1000.0), ("w", 0, 200.0, 1000.0),
     ("u", 0, np.nan, 1000.0)],
)  # fmt: skip
def test_no_list_outside_of_the_window_before_the_event_of_somebody_else_or_without_a_time(
    shown, user, item, time_s, window_s
):
    assert shown.holding(user, item, time_s, window_s) is None


def test_nothing_was_shown(tmp_path):
    empty = read_exposures(write(tmp_path / "none.jsonl.gz", []), ITEM_IDS)
    assert len(empty) == 0
    assert empty.holding("u", 0, 100.0, 10.0) is None


def test_a_line_that_is_no_shown_item_is_named(tmp_path):
    path = tmp_path / "broken.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"user_id": "u"}\n'))
    with pytest.raises(ValueError, match=r"broken.jsonl.gz: line 1: got no shown item"):
        read_exposures(str(path), ITEM_IDS)
