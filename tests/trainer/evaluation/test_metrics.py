"""The metrics agree with scikit-learn and with hand counts."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from trainer.evaluation import metrics
from trainer.evaluation.highest import first_k


def evaluate(scores, truth, **options):
    scores = np.asarray(scores, float)
    return metrics.evaluate(lambda rows: scores[rows], sp.csr_matrix(np.asarray(truth, float)), **options)


def test_hand_counted_list():
    """Ranked 3, 0, 1, 2, 4 with relevant {0, 2}: found at ranks 2 and 4."""
    result = evaluate([[3.0, 2.0, 1.0, 9.0, 0.0]], [[1, 0, 1, 0, 0]], cutoffs=(1, 2, 4))
    expected = {"R@1": 0, "R@2": 0.5, "R@4": 1, "HR@1": 0, "HR@2": 1, "HR@4": 1, "MRR@1": 0, "MRR@2": 0.5, "MRR@4": 0.5}
    assert {name: result.mean(name) for name in expected} == expected
    discounted, ideal = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3)
    assert result.mean("NDCG@4") == pytest.approx(discounted / ideal)


def test_graded_ndcg():
    """C45: gains 3, 2, 3, 0, 1, 2 shown, 3 and 2 missed: 6.861 / 8.740 = 0.785, not 1."""
    gains = np.array([[3, 2, 3, 0, 1, 2, 3, 2.0]])
    result = evaluate(-np.arange(8)[None], gains, cutoffs=(6,))
    assert result.mean("NDCG@6") == pytest.approx(0.785, abs=5e-4)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_equals_scikit_learn(k):
    generator = np.random.default_rng(1)
    scores, gains = generator.normal(size=(40, 30)), generator.integers(0, 4, (40, 30)).astype(float)
    result = evaluate(scores, gains, cutoffs=(k,), block_users=7)
    assert result.mean(f"NDCG@{k}") == pytest.approx(ndcg_score(gains, scores, k=k), abs=1e-12)


def test_seen_items_are_hidden_and_count_as_no_truth():
    seen = sp.csr_matrix(np.array([[1, 0, 0, 0.0]]))
    result = evaluate([[9.0, 1.0, 2.0, 0.0]], [[1, 1, 0, 0]], seen=seen, cutoffs=(1, 2))
    assert result.mean("R@1") == 0 and result.mean("R@2") == 1  # ranked 2, 1; one thing to find


def test_several_questions_of_the_same_lists_are_answered_as_each_alone():
    """Warm items, cold items and a part of the users; some items are seen, some not there yet, some no candidates."""
    generator = np.random.default_rng(2)
    scores, truth, seen = (generator.random((40, 30)), *(generator.random((2, 40, 30)) < 0.1))
    is_cold = np.arange(30) % 5 == 0
    options = {
        "seen": sp.csr_matrix(seen), "cutoffs": (3, 10), "candidates": np.arange(30) != 7, "block_users": 7,
        "unavailable": lambda rows: np.arange(30) > 20 + rows[:, None] % 10,
    }  # fmt: skip
    wanted = [
        metrics.Wanted(sp.csr_matrix(truth * ~is_cold)),
        metrics.Wanted(sp.csr_matrix(truth * is_cold)),
        metrics.Wanted(sp.csr_matrix(truth), np.arange(5, 25, 2)),
    ]
    together = metrics.evaluate_all(lambda rows: scores[rows], wanted, **options)
    for each, (part, rows) in zip(together, wanted):
        alone = metrics.evaluate(lambda rows: scores[rows], part, rows=rows, **options)
        assert 3 < len(alone.rows) < 40 and each.rows.tolist() == alone.rows.tolist()
        assert (each.totals, each.users_without_truth) == (alone.totals, alone.users_without_truth)
        for name, values in alone.values.items():
            np.testing.assert_array_equal(each.values[name], values)


def test_users_without_truth_are_counted_not_averaged():
    result = evaluate([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1, 0], [0, 0], [0, 1]], cutoffs=(1,))
    assert result.rows.tolist() == [0, 2] and result.users_without_truth == 1
    assert result.values["HR@1"].tolist() == [1, 0]


def test_a_cutoff_that_holds_every_candidate_is_left_out():
    """Three candidates: a list of three is no ranking."""
    result = evaluate(
        np.arange(5.0)[None], [[1, 1, 1, 1, 1]], candidates=np.array([1, 1, 1, 0, 0], bool), cutoffs=(2, 3)
    )
    assert result.mean("R@2") == pytest.approx(2 / 3)
    assert np.isnan(result.mean("R@3")) and np.isnan(result.totals["coverage@3"])


def test_a_cutoff_that_holds_all_that_a_user_can_get_leaves_the_order_alone_to_be_judged():
    """Twelve items: the first user is asked when two of them are there, the second has seen all but three, the third
    may have all of them."""
    truth = np.zeros((3, 12))
    truth[0, 0] = truth[1, 9] = truth[2, 11] = 1
    seen, to_come = np.zeros((3, 12)), np.zeros((3, 12), bool)
    seen[1, :9], to_come[0, 2:] = 1, True
    options = {"seen": sp.csr_matrix(seen), "unavailable": lambda rows: to_come[rows], "cutoffs": (1, 2, 5)}
    result = evaluate(np.zeros((3, 12)), truth, **options)
    there = {name: (~np.isnan(result.values[name])).tolist() for name in ("R@1", "R@2", "HR@5", "NDCG@5", "MRR@5")}
    assert there == {
        "R@1": [True] * 3, "R@2": [False, True, True], "HR@5": [False, False, True],
        "NDCG@5": [True] * 3, "MRR@5": [True] * 3,
    }  # fmt: skip
    interval = result.interval("HR@5")
    assert interval.users == 1 and interval.value == interval.low == interval.high == result.mean("HR@5")


def test_top_k_holds_the_highest_scores_and_nothing_that_is_not_to_be_returned():
    scores = np.random.default_rng(0).integers(0, 6, (50, 20)).astype(float)
    ranked = metrics.top_k(scores, 7, np.arange(50))
    np.testing.assert_array_equal(np.take_along_axis(scores, ranked, 1), -np.sort(-scores, axis=1)[:, :7])
    assert all(len(set(row)) == 7 for row in ranked.tolist())
    assert metrics.top_k(np.array([[-np.inf, 2, -np.inf]]), 3, np.zeros(1, int)).tolist() == [[1, -1, -1]]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 4), st.integers(1, 300), st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_top_k_is_a_sort_however_many_items_and_equal_scores_there_are(num_users, num_items, k, values, seed):
    """As the definition says: the highest scores, equal ones in the order of the user's own permutation."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, values, (num_users, num_items)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.2] = -np.inf
    for user, ranked in enumerate(metrics.top_k(scores, k, np.arange(num_users))):
        bound = np.sort(scores[user])[::-1][min(k, num_items) - 1]
        kept = np.random.default_rng(user).permutation(
            np.flatnonzero((scores[user] >= bound) & (scores[user] > -np.inf))
        )
        expected = sorted(kept.tolist(), key=lambda item: -scores[user, item])[: min(k, num_items)]
        assert ranked.tolist() == expected + [-1] * (len(ranked) - len(expected))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 4), st.integers(1, 300), st.integers(0, 12), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_first_of_a_stable_sort_are_found_without_it(num_users, num_items, k, values, seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, values, (num_users, num_items)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.5] = -np.inf
    k = min(k, num_items)
    np.testing.assert_array_equal(first_k(scores, k), np.argsort(-scores, 1, kind="stable")[:, :k])


def test_equal_scores_rank_in_any_order_but_each_time_in_the_same():
    """Of 1,000 users with four equal scores and a better one each item comes second in a quarter, whatever its place in
    the catalogue.
    """
    scores = np.tile([1.0, 1, 5, 1, 1], (1000, 1))
    ranked = metrics.top_k(scores, 2, np.arange(1000))
    assert (ranked[:, 0] == 2).all()
    counts = np.bincount(ranked[:, 1], minlength=5)
    assert counts[2] == 0 and counts[[0, 1, 3, 4]].min() > 200
    np.testing.assert_array_equal(ranked[700:], metrics.top_k(scores[700:], 2, np.arange(700, 1000)))


def test_constant_scores_find_as_much_as_chance_wherever_the_truth_stands():
    """A recall of 1 in 10 at the first place of the catalogue as at the last, with a list of 2 of 20."""
    for place in (0, 19):
        truth = np.zeros((2000, 20))
        truth[:, place] = 1
        assert evaluate(np.zeros((2000, 20)), truth, cutoffs=(2,)).mean("R@2") == pytest.approx(0.1, abs=0.03)


def test_what_is_not_there_yet_is_neither_shown_nor_sought():
    """Item 0 comes after the first user has asked: of their two targets the other is found at rank 1; the second user
    finds both.
    """
    later = np.array([[True, False, False, False], [False] * 4])
    scores, truth = [[3.0, 2.0, 1.0, 0.0]] * 2, [[1, 1, 0, 0]] * 2
    result = evaluate(scores, truth, cutoffs=(1, 2), unavailable=lambda rows: later[rows])
    assert result.values["MRR@1"].tolist() == [1, 1] and result.values["R@1"].tolist() == [1, 0.5]
    assert result.values["R@2"].tolist() == [1, 1] and result.totals["coverage@1"] == 0.5


def test_blocks_do_not_change_the_result():
    generator = np.random.default_rng(2)
    scores, truth = generator.normal(size=(23, 12)), generator.random((23, 12)) < 0.2
    whole, blocked = (evaluate(scores, truth, cutoffs=(3,), block_users=size) for size in (100, 4))
    for name in whole.values:
        np.testing.assert_array_equal(whole.values[name], blocked.values[name])
    assert whole.totals == blocked.totals


def test_exposure():
    """Everyone is shown item 0: one of four items covered, Gini (n - 1) / n; an even hand is 0."""
    same = evaluate(np.tile([4.0, 3, 2, 1], (4, 1)), np.ones((4, 4)), cutoffs=(1,))
    even = evaluate(np.eye(4), np.ones((4, 4)), cutoffs=(1,))
    assert same.totals == {"coverage@1": 0.25, "gini@1": pytest.approx(0.75)}
    assert even.totals == {"coverage@1": 1.0, "gini@1": pytest.approx(0.0)}


@pytest.mark.parametrize(
    ("counts", "expected"), [([3, 3, 3], 0.0), ([0, 0, 0, 8], 0.75), ([], np.nan), ([0, 0], np.nan)]
)
def test_gini_says_nothing_where_nothing_was_shown(counts, expected):
    assert metrics.gini(np.array(counts)) == pytest.approx(expected, nan_ok=True)


def test_nobody_to_judge():
    result = evaluate(np.zeros((2, 3)), np.zeros((2, 3)), cutoffs=(1,))
    assert result.users_without_truth == 2 and np.isnan(result.mean("R@1")) and np.isnan(result.interval("R@1").low)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite, the first for user row 1"):
        evaluate([[0.0, 1.0], [np.nan, 0.0]], [[1, 0], [1, 0]], cutoffs=(1,))


def test_interval_covers_the_true_mean():
    """Of 200 samples from a known distribution, about 95 % of the intervals hold its mean."""
    generator = np.random.default_rng(3)
    intervals = [metrics.bootstrap(generator.normal(0.3, 1, 150), seed) for seed in range(200)]
    assert 0.89 <= np.mean([i.low <= 0.3 <= i.high for i in intervals]) <= 0.99


def test_paired_interval_sees_what_separate_ones_cannot():
    """A small but constant gain over users who differ a lot."""
    base = np.random.default_rng(4).random(100)
    gain = metrics.paired_bootstrap(base + 0.01, base, seed=0)
    assert gain.low == pytest.approx(0.01) and gain.high == pytest.approx(0.01)
    assert metrics.bootstrap(base + 0.01).low < metrics.bootstrap(base).high
    with pytest.raises(ValueError, match="same users"):
        metrics.paired_bootstrap(base, base[1:])


def test_intervals_of_several_metrics_are_those_of_each():
    values = {"a": np.random.default_rng(0).random(30), "b": np.arange(30.0), "undefined": np.full(30, np.nan)}
    together = metrics.bootstrap_all(values, seed=3)
    assert together["a"].low == pytest.approx(metrics.bootstrap(values["a"], 3).low)
    assert together["b"].value == 14.5 and np.isnan(together["undefined"].value) and together["undefined"].users == 30
