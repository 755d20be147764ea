"""The highest scores of many rows, without sorting the rest.

B rows, N items.
"""

from __future__ import annotations

import numpy as np

_PART_ITEMS = 32  # of a row of scores, whose highest one stands for them


def top_k(scores: np.ndarray, k: int, seeds: np.ndarray) -> np.ndarray:
    """Positions of the k highest scores, best first; int64 [B, k], -1 where only -inf is left.

    scores: float [B, N], no NaN, -inf = not to be returned. seeds: int [B], of the order of equal scores in each row.
    """
    k = min(k, scores.shape[1])
    ranked = np.full((len(scores), k), -1, np.int64)
    if k == 0:
        return ranked
    rows, items = np.nonzero((scores >= _at_most_kth(scores, k)[:, None]) & (scores > -np.inf))
    starts = np.searchsorted(rows, np.arange(len(scores) + 1))
    for row, seed in enumerate(seeds):
        candidates = items[starts[row] : starts[row + 1]]
        values = scores[row, candidates]
        if len(candidates) > k:
            candidates = candidates[values >= np.partition(values, -k)[-k]]
        candidates = np.random.default_rng(seed).permutation(candidates)
        order = candidates[np.argsort(-scores[row, candidates], kind="stable")][:k]
        ranked[row, : len(order)] = order
    return ranked


def first_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest scores, best first, equal ones in their order: int64 [B, k].

    scores: float [B, N], N at least k, no NaN.
    """
    rows, items = np.nonzero(scores >= _at_most_kth(scores, k)[:, None]) if k else (np.zeros(0, int),) * 2
    starts = np.searchsorted(rows, np.arange(len(scores) + 1))
    found = np.empty((len(scores), k), np.int64)
    for row, row_scores in enumerate(scores):
        candidates = items[starts[row] : starts[row + 1]]
        found[row] = candidates[np.argsort(-row_scores[candidates], kind="stable")[:k]]
    return found


def _at_most_kth(scores: np.ndarray, k: int) -> np.ndarray:
    """A bound for each row that at least k of its scores reach, and hardly more: float [B].

    The k-th highest of the highest scores of many parts is not above the k-th highest of all; with few parts it is
    that one itself.
    """
    parts = scores.shape[1] // _PART_ITEMS
    if parts >= k:
        width = parts * _PART_ITEMS
        highest = scores[:, :width].reshape(len(scores), _PART_ITEMS, parts).max(1)
        scores = np.concatenate([highest, scores[:, width:]], 1)
    return -np.partition(-scores, k - 1, axis=1)[:, k - 1]
