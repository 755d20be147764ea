"""The privacy account of DP-SGD: from a guarantee to the noise that it takes, and back.

A step draws each person independently (Poisson sampling), so a run is a composition of Poisson-subsampled Gaussian
mechanisms under addition or removal of one person. The library dp-accounting composes their privacy loss
distributions (Koskela et al., 2020; Doroshenko et al., 2022).
"""

from __future__ import annotations

import math

import dp_accounting
from dp_accounting import pld

from trainer.config.privacy import DifferentialConfig
from trainer.privacy_report import PrivacyReport

_LOSS_INTERVAL = 1e-3  # of the discretised privacy loss, which is rounded up
_TOLERANCE = 1e-3  # of the noise multiplier


def plan(people: int, config: DifferentialConfig) -> PrivacyReport:
    """The steps of a private training of so many people, with the least noise that keeps the configured guarantee."""
    rate = min(1.0, config.people_per_step / people)
    steps = config.epochs * math.ceil(1 / rate)
    noise = noise_multiplier(config.epsilon, config.delta, rate, steps)
    spent = epsilon_of(noise, config.delta, rate, steps)
    return PrivacyReport(spent, config.delta, noise, config.clip, rate, steps, people)


def noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least noise multiplier with which the steps are (epsilon, delta)-private; 0 for an infinite epsilon."""
    if math.isinf(epsilon):
        return 0.0
    return dp_accounting.calibrate_dp_mechanism(
        _accountant,
        lambda noise: _steps(noise, rate, steps),
        epsilon,
        delta,
        dp_accounting.LowerEndpointAndGuess(0.0, 1.0),
        tol=_TOLERANCE,
    )


def epsilon_of(noise: float, delta: float, rate: float, steps: int) -> float:
    """The epsilon that the steps spend at a delta; infinite without noise."""
    if noise == 0:
        return math.inf
    accountant = _accountant()
    accountant.compose(_steps(noise, rate, steps))
    return float(accountant.get_epsilon(delta))


def _accountant() -> pld.PLDAccountant:
    return pld.PLDAccountant(value_discretization_interval=_LOSS_INTERVAL)


def _steps(noise: float, rate: float, steps: int) -> dp_accounting.DpEvent:
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, steps)
