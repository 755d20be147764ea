"""The growth benchmark's parts of a data set, and its rows."""

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.quality import bench
from benchmarks.quality.methods import Contender, score_popularity
from benchmarks.quality.splits import Stage, matrix


@pytest.fixture
def stage():
    """Twenty users; each took ten of twenty items, and one of the others is to be found."""
    users, items = np.array([(user, (user + step) % 20) for user in range(20) for step in range(11)]).T
    is_sought = np.arange(len(users)) % 11 == 10
    train, truth = (matrix(users[part], items[part], (20, 20)) for part in (~is_sought, is_sought))
    return Stage(train, train, train, truth, np.ones(20, bool))


def test_a_share_of_the_events(stage):
    few = growth.with_events(stage, 0.3)
    assert (few.train.nnz, few.train.shape) == (60, (20, 20))
    assert not (few.train > stage.train).nnz, "no pair that was not there"
    assert (growth.with_events(stage, 1.0).train != stage.train).nnz == 0


def test_a_share_of_the_items_with_all_of_their_events(stage):
    few = growth.with_items(stage, 0.3)
    assert few.train.shape == (20, 6) and few.candidates.shape == (6,)
    assert few.train.getnnz(0).tolist() == [10] * 6
    assert few.truth.nnz == 6, "each item is sought by one"


def test_rows_of_one_fit(stage, monkeypatch):
    monkeypatch.setattr(bench, "in_own_process", lambda function, *arguments: function(*arguments))
    rows = growth.costs_of("events_30", Contender("popularity", score_popularity), growth.with_events(stage, 0.3))
    values = {row["metric"]: row["value"] for row in rows}
    assert (values["events"], values["items"]) == (60, 20)
    assert set(values) == {"seconds", "cpu_seconds", "peak_mb", "events", "items"} and values["peak_mb"] > 10
