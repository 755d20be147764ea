"""The comparison with Gorse: its cut of the events, its metric."""

import csv

import pytest

from benchmarks import gorse
from benchmarks.gorse import measures, systems


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
    assert measures.ndcg(ids, liked) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("after", "is_new"),
    [(["b", "c", "d"], False), (["a", "b", "c"], True), (["c", "b", "d"], True), (["b", "c"], False)],
)
def test_a_list_from_which_the_liked_item_is_gone_is_no_new_list(after, is_new):
    assert measures.is_new_list(["a", "b", "c"], "a", after) is is_new


def test_gorse_has_trained_when_a_whole_pass_came_after_both_models():
    ranking, click = systems.GORSE_FITTED
    listed = systems.GORSE_LISTED
    assert not systems.has_trained("\n".join([listed, ranking, listed, click, listed]))
    assert systems.has_trained("\n".join([ranking, click, listed, listed]))
