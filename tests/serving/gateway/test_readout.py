"""Experiments' read-out: rates by hand, false alarms, a planted difference, a broken split."""

import numpy as np
import pytest

from serving.gateway import experiments
from serving.gateway.config import ExperimentConfig, VariantConfig
from serving.gateway.readout import check_split, read_out

HALVES = {"now": 0.5, "new": 0.5}


def world(generator, people=1000, lift=0.0):
    """People of different appetite: (successes, lists) of each, a success rate of .2 on average and `lift` more in
    "new"."""
    lists = 1 + generator.poisson(4, people)
    appetite = generator.beta(2, 8, people)
    is_new = generator.random(people) < 0.5
    successes = generator.binomial(lists, np.clip(appetite + lift * is_new, 0, 1))
    rows = np.stack([successes, lists], 1).astype(float)
    return {"now": rows[~is_new], "new": rows[is_new]}


def test_a_rate_is_successes_over_lists_and_its_interval_that_of_people():
    """Twenty people with 1 of 2 and twenty with 3 of 4: rate 4/6; residuals 1 - 4/3 and 3 - 8/3, variance 40/9/39,
    over 40 people and 3 lists each."""
    found = read_out("x", HALVES, {"now": np.tile([[1, 2], [3, 4]], (20, 1)), "new": np.array([[5, 10]])})
    now, new = found.variants
    assert (now.people, now.lists, now.successes, now.rate) == (40, 120, 80, pytest.approx(4 / 6))
    half = 1.959964 * np.sqrt(40 / 9 / 39 / 40 / 9)
    assert (now.low, now.high) == (pytest.approx(4 / 6 - half), pytest.approx(4 / 6 + half))
    assert new.rate == 0.5 and np.isinf(new.high) and not new.difference.is_found  # one person tells nothing


def test_few_people_who_are_alike_are_no_certainty():
    """An A/A split of people with one list each, looked at after every one of them."""
    generator, found = np.random.default_rng(3), 0
    for _ in range(400):
        rows = {name: np.stack([generator.integers(0, 2, 60), np.ones(60)], 1) for name in HALVES}
        looks = ({name: part[:people] for name, part in rows.items()} for people in range(1, 61))
        found += any(read_out("aa", HALVES, look).variants[1].difference.is_found for look in looks)
    assert found <= 20  # 5 %
    nobody = read_out("x", HALVES, {name: np.tile([0, 1], (40, 1)) for name in HALVES}).variants[1]
    assert nobody.low < 0 < nobody.high and nobody.difference.always_low < 0 < nobody.difference.always_high


def test_aa_splits_raise_few_false_alarms_however_often_one_looks():
    """1,000 experiments without a difference, each looked at ten times: the fixed interval of the last look errs in
    about 5 %, the always-valid one over all ten looks in at most that."""
    generator, fixed, always = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        rows = world(generator)
        looks = [
            read_out("aa", HALVES, {name: part[: len(part) * look // 10] for name, part in rows.items()}).variants[1]
            for look in range(1, 11)
        ]
        last = looks[-1].difference
        fixed += last.low > 0 or last.high < 0
        always += any(arm.difference.is_found for arm in looks)
    assert 30 <= fixed <= 70
    assert always <= 60


def test_a_planted_difference_is_found_with_its_size():
    found = read_out("lift", HALVES, world(np.random.default_rng(1), people=20_000, lift=0.05)).variants[1].difference
    assert found.is_found and found.low < 0.05 < found.high


@pytest.mark.parametrize(
    ("people", "is_broken"), [((5000, 5050), False), ((5000, 5600), True), ((0, 0), False), ((10, 0), False)]
)
def test_a_broken_split_is_noticed(people, is_broken):
    assert check_split(people, (0.5, 0.5)).is_broken is is_broken


def test_people_in_a_variant_without_a_share_break_the_split():
    assert check_split((10, 1), (1.0, 0.0)).is_broken


def test_the_assignment_of_a_thousand_experiments_splits_as_configured():
    """A/A over names: the share of people whom the hash puts into the first variant is what the shares say, in all but
    chance's cases."""
    experiment = ExperimentConfig({"now": VariantConfig(0.3), "new": VariantConfig(0.7)})
    users = [f"u{number}" for number in range(500)]
    broken = 0
    for number in range(1000):
        names = [experiments.variant_of(f"e{number}", experiment, user) for user in users]
        broken += check_split([names.count("now"), names.count("new")], (0.3, 0.7)).p_value < 0.05
    assert 30 <= broken <= 70
