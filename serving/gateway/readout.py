"""How an experiment stands: rates per person with intervals, the difference to the first variant, a check of the split.

A person's successes and lists go together, so intervals are those of a ratio of means over people (delta method: Deng,
Knoblich and Lu, 2018, "Applying the delta method in metric analytics"). The always-valid interval is the mixture
sequential probability ratio test's (Johari, Koomen, Pekelis and Walsh, 2017, "Peeking at A/B tests"): it holds at every
look at once, so looking early does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

ALPHA = 0.05
FEWEST = 30  # people: of fewer a variance says too little for a normal approximation
BROKEN_P = 1e-3  # of the chi-squared test of the split: below, the split is not what was configured


@dataclass(frozen=True)
class Difference:
    """A variant's rate minus the first one's."""

    value: float
    low: float  # 95 %, for one look at a time set before
    high: float
    always_low: float  # 95 % over all looks together
    always_high: float

    @property
    def is_found(self) -> bool:
        """Whether the always-valid interval leaves 0 out."""
        return self.always_low > 0 or self.always_high < 0


@dataclass(frozen=True)
class Arm:
    """One variant."""

    name: str
    people: int
    lists: int
    successes: int
    rate: float  # successes a list
    low: float
    high: float
    difference: Difference | None = None  # None of the first


@dataclass(frozen=True)
class Split:
    """Whether as many people are in each variant as were meant to be."""

    p_value: float
    is_broken: bool


@dataclass(frozen=True)
class Readout:
    """An experiment."""

    name: str
    variants: tuple[Arm, ...]
    split: Split


def read_out(
    name: str, shares: Mapping[str, float], people: Mapping[str, np.ndarray], effect_scale: float = 0.02
) -> Readout:
    """Rates, differences and the check of the split.

    shares: each variant's configured share, the first one stands for what was before. people: float [num_people, 2] for
    each variant, (successes, lists) of each person with a list. effect_scale: standard deviation of the normal mixture,
    about as large as the differences in rate that are looked for.
    """
    numbers = {variant: np.asarray(people.get(variant, ()), float).reshape(-1, 2) for variant in shares}
    rates = {variant: _rate(rows) for variant, rows in numbers.items()}
    first = next(iter(shares))
    arms = []
    for variant, rows in numbers.items():
        rate, variance = rates[variant]
        half = _z() * math.sqrt(variance)
        difference = None if variant == first else _difference(rates[variant], rates[first], effect_scale)
        arms.append(
            Arm(
                variant,
                len(rows),
                int(rows[:, 1].sum()),
                int(rows[:, 0].sum()),
                rate,
                rate - half,
                rate + half,
                difference,
            )
        )
    return Readout(name, tuple(arms), check_split([len(rows) for rows in numbers.values()], list(shares.values())))


def check_split(people: Sequence[int], shares: Sequence[float]) -> Split:
    """Chi-squared test of the numbers of people against the configured shares; variants without a share must be
    empty."""
    meant = np.array(shares, float)
    counts = np.array(people, float)
    if counts[meant == 0].any():
        return Split(0.0, True)
    counts, meant = counts[meant > 0], meant[meant > 0]
    if counts.sum() == 0 or len(counts) < 2:
        return Split(1.0, False)
    expected = counts.sum() * meant / meant.sum()
    p_value = float(special.chdtrc(len(counts) - 1, ((counts - expected) ** 2 / expected).sum()))
    return Split(p_value, p_value < BROKEN_P)


def _rate(rows: np.ndarray) -> tuple[float, float]:
    """The ratio of the sums and the variance of that ratio; nothing is known (an infinite variance) of fewer than
    FEWEST people.

    Where all are alike the variance is that with two people more, who took everything and nothing (Agresti and Coull,
    1998, "Approximate is better than exact"): that nobody has taken anything yet is no certainty.
    """
    successes, lists = rows.T
    rate = float(successes.sum() / lists.sum()) if len(rows) else 0.0
    if len(rows) < FEWEST:
        return rate, math.inf
    rest = successes - rate * lists
    if not rest.any():
        rest = np.append(rest, np.array([1 - rate, -rate]) * lists.mean())
    return rate, float(rest.var(ddof=1) / len(rows) / lists.mean() ** 2)


def _difference(one: tuple[float, float], other: tuple[float, float], effect_scale: float) -> Difference:
    value, variance = one[0] - other[0], one[1] + other[1]
    half, always = _z() * math.sqrt(variance), _always_valid(variance, effect_scale)
    return Difference(value, value - half, value + half, value - always, value + always)


def _always_valid(variance: float, effect_scale: float) -> float:
    """Half the width of the interval of all looks, for an estimate with this variance."""
    if not math.isfinite(variance):
        return math.inf
    mixed = variance + effect_scale**2
    return math.sqrt(variance * mixed / effect_scale**2 * math.log(mixed / (variance * ALPHA**2)))


def _z() -> float:
    return float(special.ndtri(1 - ALPHA / 2))
