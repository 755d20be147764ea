"""Ridge regression in closed form, with the penalty and the weights of blocks of columns chosen by the error on the
item left out.

R items, E columns of all blocks, D outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
SEARCHED_ROWS = 800  # items that the search looks at
SWEEPS = 2


def choose_ridge(designs: Sequence[np.ndarray], targets: np.ndarray) -> tuple[list[float], float]:
    """Chooses the weight of each block and the penalty with the least leave-one-out error, by coordinate search.

    The search begins with all blocks alike; where that ends with more error than the best block has alone, it begins
    again with that block, so blocks together are never worse than the best part of them.
    designs: float [R, E_m] each.
    targets: float [R, D].
    Returns the weights and the penalty.
    """
    rows = _searched(targets)
    grams = [block[rows] @ block[rows].T for block in designs]
    targets = targets[rows].astype(np.float64)
    telling = [place for place, gram in enumerate(grams) if gram.any()]

    def error(weights: Sequence[float]) -> tuple[float, float]:
        return _left_out_error(
            sum((weight**2 * block for weight, block in zip(weights, grams)), np.zeros((len(rows), len(rows)))), targets
        )

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
    left_out: np.ndarray  # float64 [R, D], leave-one-out predictions


def fit_ridge(designs: Sequence[np.ndarray], targets: np.ndarray) -> RidgeFit:
    """The ridge regression (Hoerl & Kennard, 1970) of targets [R, D] on blocks of columns [R, E_m], the intercept
    penalised like a column.

    Penalty and weights are those with the least error on the item left out (Allen's PRESS, 1974).
    """
    targets = targets.astype(np.float64)
    weights, penalty = choose_ridge(designs, targets)
    full = np.concatenate([*(block * weight for block, weight in zip(designs, weights)), np.ones((len(targets), 1))], 1)
    if full.shape[1] <= len(full):
        inverse = np.linalg.inv(full.T @ full + penalty * np.eye(full.shape[1]))
        kernel = inverse @ (full.T @ targets)
        leverage = np.einsum("re,ef,rf->r", full, inverse, full, optimize=True)
    else:
        inverse = np.linalg.inv(full @ full.T + penalty * np.eye(len(full)))
        kernel = full.T @ (inverse @ targets)
        leverage = 1 - penalty * np.diag(inverse)
    fitted = full @ kernel
    left_out = targets - (targets - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]
    edges = np.cumsum([0, *(block.shape[1] for block in designs)])
    kernels = [kernel[start:stop] * weight for start, stop, weight in zip(edges[:-1], edges[1:], weights)]
    return RidgeFit(kernels, kernel[-1], weights, penalty, left_out)
