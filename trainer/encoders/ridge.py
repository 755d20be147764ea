"""Ridge regression in closed form, with the penalty and the weights of blocks of columns chosen by the error on the
item left out.

R items, E columns of all blocks, D outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
SEARCHED_ROWS = 800  # items that the search looks at
SWEEPS = 2
_ROWS_AT_ONCE = 4096  # items whose columns stand in float64


def choose_ridge(designs: Sequence[np.ndarray], targets: np.ndarray) -> tuple[list[float], float]:
    """Chooses the weight of each block and the penalty with the least leave-one-out error, by coordinate search.

    The search begins with all blocks alike; where that ends with more error than the best block has alone, it begins
    again with that block, so blocks together are never worse than the best part of them.
    designs: float [R, E_m] each.
    targets: float [R, D].
    Returns the weights and the penalty.
    """
    rows = _searched(targets)
    grams = [block @ block.T for block in (block[rows].astype(np.float64) for block in designs)]
    targets = targets[rows].astype(np.float64)
    telling = [place for place, gram in enumerate(grams) if gram.any()]

    @functools.cache
    def error_of(weights: tuple[float, ...]) -> tuple[float, float]:
        return _left_out_error(
            sum((weight**2 * block for weight, block in zip(weights, grams)), np.zeros((len(rows), len(rows)))), targets
        )

    def error(weights: Sequence[float]) -> tuple[float, float]:
        return error_of(tuple(weights))

    def search(weights: list[float]) -> tuple[tuple[float, float], list[float]]:
        least = error(weights)
        for _ in range(SWEEPS):
            before = least
            for block in telling:
                for weight in WEIGHTS:
                    tried = [*weights[:block], weight, *weights[block + 1 :]]
                    if any(tried) and (found := error(tried)) < least:
                        least, weights = found, tried
            if least == before:
                break
        return least, weights

    best = search([1.0] * len(designs))
    if len(telling) > 1:
        alone = [[float(place == block) for place in range(len(designs))] for block in telling]
        start = min(alone, key=error)
        if error(start) < best[0]:
            best = min(best, search(start))
    return best[1], best[0][1]


def explained(block: np.ndarray, targets: np.ndarray) -> float:
    """The share of the targets' variance that a block alone explains, leave-one-out: from 0 to 1.

    block: float [R, E].
    targets: float [R, D].
    """
    rows = _searched(targets)
    targets = targets[rows].astype(np.float64)
    unexplained = ((targets - targets.mean(0)) ** 2).mean()
    return float(np.clip(1 - _left_out_error(block[rows] @ block[rows].T, targets)[0] / max(unexplained, 1e-12), 0, 1))


def _searched(targets: np.ndarray) -> np.ndarray:
    return np.linspace(0, len(targets) - 1, min(len(targets), SEARCHED_ROWS)).astype(int)


def _left_out_error(gram: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """The least leave-one-out mean squared error, and its penalty. gram: [R, R], without the intercept's part."""
    values, vectors = np.linalg.eigh(gram + 1.0)
    projected = vectors.T @ targets
    best = (np.inf, PENALTIES[0])
    for penalty in PENALTIES:
        inverse = 1 / (values + penalty)
        residual = (vectors * inverse) @ projected / ((vectors**2) @ inverse)[:, None]
        best = min(best, (float((residual**2).mean()), penalty))
    return best


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge regression: outputs = sum of blocks @ kernels + bias."""

    kernels: list[np.ndarray]  # float64 [E_m, D], a block each
    bias: np.ndarray  # float64 [D]
    weights: list[float]  # of the blocks, chosen
    penalty: float  # chosen
    left_out: np.ndarray | None  # float64 [R, D], leave-one-out predictions, where they were asked for


def fit_ridge(designs: Sequence[np.ndarray], targets: np.ndarray, with_left_out: bool = False) -> RidgeFit:
    """The ridge regression (Hoerl & Kennard, 1970) of targets [R, D] on blocks of columns [R, E_m], the intercept
    penalised like a column.

    Penalty and weights are those with the least error on the item left out (Allen's PRESS, 1974).
    """
    targets = targets.astype(np.float64)
    weights, penalty = choose_ridge(designs, targets)
    edges = np.cumsum([0, *(block.shape[1] for block in designs)])
    num_columns, left_out = edges[-1] + 1, np.empty_like(targets)

    def parts() -> Iterator[tuple[slice, np.ndarray]]:
        """Some rows of all weighted columns, the intercept last: float64 [_ROWS_AT_ONCE, E + 1]."""
        for start in range(0, len(targets), _ROWS_AT_ONCE):
            at = slice(start, start + _ROWS_AT_ONCE)
            columns = (block[at].astype(np.float64) * weight for block, weight in zip(designs, weights))
            yield at, np.concatenate([*columns, np.ones((len(targets[at]), 1))], 1)

    if num_columns <= len(targets):
        gram, moment = np.zeros((num_columns, num_columns)), np.zeros((num_columns, targets.shape[1]))
        for at, full in parts():
            gram += full.T @ full
            moment += full.T @ targets[at]
        gram[np.diag_indices(num_columns)] += penalty
        factor = scipy.linalg.cholesky(gram.T, lower=True, overwrite_a=True, check_finite=False)
        kernel = scipy.linalg.cho_solve((factor, True), moment)
        for at, full in parts() if with_left_out else ():
            fitted = full @ kernel
            halves = scipy.linalg.solve_triangular(factor, full.T, lower=True, overwrite_b=True, check_finite=False)
            left_out[at] = _without(targets[at], fitted, (halves**2).sum(0))
    else:
        full = np.concatenate([full for _, full in parts()])
        inverse = np.linalg.inv(full @ full.T + penalty * np.eye(len(full)))
        kernel = full.T @ (inverse @ targets)
        if with_left_out:
            left_out = _without(targets, full @ kernel, 1 - penalty * np.diag(inverse))
    kernels = [kernel[start:stop] * weight for start, stop, weight in zip(edges[:-1], edges[1:], weights)]
    return RidgeFit(kernels, kernel[-1], weights, penalty, left_out if with_left_out else None)


def _without(targets: np.ndarray, fitted: np.ndarray, leverage: np.ndarray) -> np.ndarray:
    """What the regression without an item predicts of it: float64 [R, D]. leverage: [R]."""
    return targets - (targets - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]
