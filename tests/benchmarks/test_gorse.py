"""The comparison with Gorse: its cut of the events, its metric."""

import csv

import pytest

from benchmarks import gorse


def test_the_test_period_is_the_last_tenth_and_asks_for_new_liked_items(tmp_path):
    """Twenty events at times 0 to 19: the last two are the test period. Of those, only an item that is new and liked
    counts."""
    rows = [("u", f"i{time}", time, 5) for time in range(18)] + [("u", "i0", 18, 5), ("u", "new", 19, 4)]
    with (tmp_path / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "timestamp", "value"), *rows])
    world = gorse.read_world(tmp_path)
    assert len(world.before) == 18 and world.liked_after == {"u": {"new"}}


@pytest.mark.parametrize(
    ("ids", "liked", "value"),
    [(["a", "b"], {"a"}, 1.0), (["b", "a"], {"a"}, 0.6309), (["x"], {"a"}, 0.0), (["a", "x"], {"a", "b"}, 0.6131)],
)
def test_ndcg_of_one_list(ids, liked, value):
    assert gorse.ndcg(ids, liked) == pytest.approx(value, abs=1e-4)
