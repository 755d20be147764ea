"""Intervals over users of whom each may have several rows, as in several draws of a split."""

from __future__ import annotations

import numpy as np

from trainer.evaluation.metrics import RESAMPLES, Interval


def over_users(values: np.ndarray, users: np.ndarray, weights: np.ndarray) -> Interval:
    """The sum of the values over the sum of the weights, with its 95 % percentile interval over resampled users, each
    with all of their rows (Efron, 1979).

    values: float [V], NaN where a row says nothing. users: int [V], whose each row is. weights: float [V], 1 for a
    plain mean.
    """
    is_there = ~np.isnan(values)
    people, place = np.unique(users[is_there], return_inverse=True)
    sums = np.stack([np.bincount(place, part[is_there]) for part in (values, weights)])  # [2, people]
    generator = np.random.default_rng(0)
    draws = (generator.integers(0, len(people), len(people)) for _ in range(RESAMPLES))
    drawn = np.stack([sums @ np.bincount(draw, minlength=len(people)) for draw in draws])  # [draws, 2]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    value, weight = sums.sum(1)
    return Interval(float(value / weight), float(low), float(high), len(people))
