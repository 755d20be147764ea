"""The account of DP-SGD against the library's own, and against what must hold of any."""

import math

import dp_accounting
import pytest
from dp_accounting import rdp

from trainer.accounting import epsilon_of, noise_multiplier, plan
from trainer.config.privacy import DifferentialConfig

RATE, STEPS, DELTA = 0.25, 80, 1e-4


def rdp_epsilon(noise: float) -> float:
    """By moments (Abadi et al., 2016; Mironov, 2017), an upper bound that the library computes on another way."""
    accountant = rdp.RdpAccountant([*range(2, 65), 128, 256])
    step = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, STEPS))
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize("noise", [1.5, 3.0, 8.0])
def test_epsilon_is_below_the_bound_by_moments_and_near_it(noise):
    bound = rdp_epsilon(noise)
    assert 0.8 * bound < epsilon_of(noise, DELTA, RATE, STEPS) <= bound


@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
def test_the_noise_keeps_the_guarantee_and_hardly_more(epsilon):
    noise = noise_multiplier(epsilon, DELTA, RATE, STEPS)
    assert 0.99 * epsilon < epsilon_of(noise, DELTA, RATE, STEPS) <= epsilon


def test_more_privacy_more_steps_and_a_higher_rate_take_more_noise():
    base = noise_multiplier(4.0, DELTA, RATE, 8)
    assert noise_multiplier(1.0, DELTA, RATE, 8) > base > noise_multiplier(8.0, DELTA, RATE, 8)
    assert noise_multiplier(4.0, DELTA, RATE, 16) > base
    assert noise_multiplier(4.0, DELTA, 2 * RATE, 8) > base
    assert noise_multiplier(4.0, DELTA / 100, RATE, 8) > base


def test_a_single_step_of_everybody_is_the_gaussian_mechanism():
    """The tight delta of the Gaussian mechanism in closed form (Balle and Wang, 2018, theorem 8)."""
    epsilon = epsilon_of(2.0, 1e-5, 1.0, 1)
    normal = lambda x: (1 + math.erf(x / math.sqrt(2))) / 2  # noqa: E731
    delta = normal(0.25 - 2 * epsilon) - math.exp(epsilon) * normal(-0.25 - 2 * epsilon)
    assert delta == pytest.approx(1e-5, rel=0.01)


def test_a_plan_samples_so_many_people_and_takes_all_epochs():
    planned = plan(1000, DifferentialConfig(4.0, 1e-5, people_per_step=250, epochs=5, clip=0.5))
    assert (planned.sampling_rate, planned.steps, planned.clip, planned.people) == (0.25, 20, 0.5, 1000)
    assert 0 < planned.epsilon <= 4.0
    few = plan(10, DifferentialConfig(4.0, 1e-5, people_per_step=250, epochs=5))
    assert (few.sampling_rate, few.steps) == (1.0, 5)


def test_an_infinite_epsilon_takes_no_noise_and_says_that_it_guarantees_nothing():
    planned = plan(10, DifferentialConfig(math.inf, 1e-5))
    assert planned.noise_multiplier == 0
    assert planned.epsilon == math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: got 0.0, expected a number above 0"),
        ({"epsilon": -1.0}, "epsilon: got -1.0"),
        ({"delta": 0.0}, "delta: got 0.0, expected a probability above 0 and below 1"),
        ({"delta": 1.0}, "delta: got 1.0"),
        ({"clip": 0.0}, "clip: got 0.0"),
        ({"clip": math.inf}, "a finite one where there is noise"),
        ({"people_per_step": 0}, "people_per_step, epochs: got 0"),
        ({"content_share": 1.0}, "content_share: got 1.0"),
    ],
)
def test_a_value_that_guarantees_nothing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DifferentialConfig(**{"epsilon": 1.0, "delta": 1e-5} | settings)
