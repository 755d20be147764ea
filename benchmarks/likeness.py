"""Vectors of items whose cosine says how alike they are, of one measurement or of several; no label is read.

N items, E numbers of a vector.
"""

from __future__ import annotations

import numpy as np

_LIMIT = 4.0  # standard deviations, as in the product
_WHITENING = 0.5  # exponent: 0 leaves the components as they are, 1 makes all equal
_SMOOTHING = 0.1  # added to the components' variances, as a share of their mean


def z_scores(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1 over all items, within +-_LIMIT."""
    return np.clip((values - values.mean(0)) / np.maximum(values.std(0), 1e-6), -_LIMIT, _LIMIT)


def fused(*parts: np.ndarray) -> np.ndarray:
    """Parts side by side, each with its principal components made less unequal: the few that most
    items share would else decide alone what each part finds alike. No label is read.
    """
    return beside(*(whitened(part) for part in parts))


def whitened(values: np.ndarray) -> np.ndarray:
    """Principal components, each divided by its deviation to the power _WHITENING: float [N, at most E]."""
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    known = sizes > 1e-6 * sizes[0]
    components, variances = (left * sizes)[:, known], sizes[known] ** 2 / len(values)
    return components * (variances + _SMOOTHING * variances.mean()) ** (-_WHITENING / 2)


def beside(*parts: np.ndarray) -> np.ndarray:
    """Vectors whose dot product is the sum of the parts' cosines."""
    return np.concatenate(
        [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9) for values in parts], 1
    )


def directions(values: np.ndarray) -> np.ndarray:
    """Directions from the mean of all directions, as the product reads an embedding."""
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return unit - unit.mean(0)
