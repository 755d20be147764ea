"""The quality benchmark's rows: means with intervals over users, leads, time to quality, goals and the picture."""

import numpy as np
import pytest

from benchmarks import page, quality
from benchmarks.quality import bench, neural, time_to_quality


def outcome_of(values, users=None, sought=None, traces=(), commit="aaaaaaa"):
    """One run with these values: of ten users with as much to find, where nothing else is said."""
    users = np.arange(10) if users is None else users
    sought = np.ones(len(users)) if sought is None else sought
    return bench.Outcome(values, users, sought, dict.fromkeys(values, 0.0), [{}], {"seconds": 1.0}, 1, traces, commit)


def interval_of(rows, metric):
    (row,) = [row for row in rows if row["metric"] == metric]
    return row["value"], row["low"], row["high"]


def test_the_same_split_three_times_tells_no_more_of_the_users_than_once():
    values, others = np.random.default_rng(1).random((2, 200))
    once = [outcome_of({"R@20": found}, np.arange(200)) for found in (values, others)]
    thrice = [outcome_of({"R@20": np.tile(found, 3)}, np.tile(np.arange(200), 3)) for found in (values, others)]
    assert interval_of(bench.outcome_rows("x", "ours", thrice[0]), "R@20") == pytest.approx(
        interval_of(bench.outcome_rows("x", "ours", once[0]), "R@20")
    )
    leads = [interval_of(bench.lead_rows("x", "ours", *pair, "above"), "R@20 above") for pair in (once, thrice)]
    assert leads[0] == pytest.approx(leads[1])
    value, low, high = leads[0]
    assert low < value < high


def test_an_accuracy_draws_pairs_with_their_users():
    """Two users in a hundred have most of the pairs, and all of these are found; the others find one of one in two.

    Where the drawn users' pairs are the whole, the share stays within 0 and 1, however often the two are drawn.
    """
    sought = np.r_[np.full(2, 500.0), np.ones(98)]
    share = np.r_[np.ones(2), np.arange(98) % 2]
    values = share * sought / sought.mean()
    outcome = outcome_of({"accuracy@100": values}, np.arange(100), sought / sought.mean())
    value, low, high = interval_of(bench.outcome_rows("x", "ours", outcome), "accuracy@100")
    assert value == pytest.approx((1000 + 49) / 1098)
    assert 0.3 < low < value < high < 1


def test_rows_name_the_best_peer_and_our_lead_over_it(tmp_path):
    def outcome(value, commit="aaaaaaa"):
        return outcome_of({"R@20": np.full(10, value), "NDCG@20": np.full(10, value / 2)}, commit=commit)

    outcomes = {"random": outcome(0.1), "text KNN": outcome(0.6, "bbbbbbb"), "ours": outcome(0.7)}
    rows = bench.case_rows("LFM-cold", outcomes)
    best = {row["metric"]: row for row in rows if row["contender"] == "best peer (text KNN)"}
    assert best["R@20"]["value"] == pytest.approx(0.6)
    (lead,) = [row for row in rows if row["metric"] == "R@20 above best peer"]
    assert (lead["value"], lead["low"], lead["high"]) == pytest.approx((0.1, 0.1, 0.1))
    commits = {(row["contender"], row["metric"]): row["commit"] for row in rows}
    assert commits["ours", "R@20"] == "aaaaaaa" and commits["text KNN", "seconds"] == "bbbbbbb"
    assert commits["ours", "R@20 above best peer"] == "aaaaaaa, bbbbbbb", "of both that are compared"
    text = page.section("quality", {"command": "x", "commit": "y", "cores": 2, "rows": rows}, tmp_path)
    assert "1.1 × best peer (text KNN), by the lower end: met" in text


def test_time_to_the_best_linear_peer(tmp_path):
    """The bound is the best that a linear peer has at its end; the first look at or above it counts, and no look says
    so too."""

    def outcome(*trace):
        return outcome_of({}, traces=[np.array(trace, float)])

    outcomes = {
        "ours": outcome((2, 1, 0.2), (4, 2, 0.31), (6, 3, 0.33)),
        "EASE": outcome((9, 0, 0.3)),
        "iALS (implicit 1)": outcome((5, 0, 0.25)),
        "BPR (RecBole 1)": outcome((50, 3, 0.1), (90, 6, 0.29)),
    }
    rows = time_to_quality.rows("ML1M-U", outcomes)
    assert (rows[0]["contender"], rows[0]["value"]) == ("best linear (EASE)", 0.3)
    assert {row["contender"]: row["value"] for row in rows[1:]} == {
        "ours": 4, "EASE": 9, "iALS (implicit 1)": None, "BPR (RecBole 1)": None,
    }  # fmt: skip
    text = page.section("quality", {"command": "x", "commit": "y", "cores": 2, "rows": rows}, tmp_path)
    assert "≤ 1 × BPR (RecBole 1): met" in text
    assert {row["commit"] for row in rows} == {"aaaaaaa"}


def test_the_goals_of_time_are_over_the_neural_peers_that_there_are():
    assert set(quality.NEURAL) == set(neural.GENERAL["neural"])


def test_goals_are_of_cases_and_metrics_that_exist():
    metrics = {
        "ML1M-U": 5,
        "LFM": 2,
        "LFM-cold": 1,
        "ML100K-R": 1,
        "ML100K-S": 1,
        "ML100K-T": 1,
        "TFRS-A": 1,
        "TFRS-A-hidden": 1,
    }
    assert {case: sum(goal["case"] == case for goal in quality.GOALS) for case in bench.CASES} == metrics


def test_the_picture_names_every_contender_and_the_goal(tmp_path):
    def outcome(value):
        return outcome_of({"R@20": np.full(10, value)})

    rows = bench.case_rows("LFM", {"ours": outcome(0.46), "EASE": outcome(0.4)})
    quality.draw(rows, tmp_path / "quality.svg")
    text = (tmp_path / "quality.svg").read_text()
    assert ">ours<" in text and ">EASE<" in text and "LFM: R@20" in text and "best peer" not in text
    assert len(text) < 20_000
    quality.draw(rows, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text, "the same rows give the same file"
