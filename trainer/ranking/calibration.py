"""Calibration of a ranker's probabilities, and the measures of a ranker.

R rows, O objectives.
"""

from __future__ import annotations

import logging

import numpy as np
from scipy import optimize
from sklearn.metrics import roc_auc_score


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Platt scaling: slope and intercept of each head's logits that fit held-out labels best, float32 [2, O].

    A head with one class only keeps its logits.
    logits: float [R, O].
    labels: [R, O], 0 or 1.
    Source: Platt, 1999.
    """
    fitted = []
    for logit, truth in zip(logits.T.astype(np.float64), labels.T):
        if truth.min() == truth.max():
            fitted.append((1.0, 0.0))
            continue

        def loss(parameters, logit=logit, truth=truth):
            moved = parameters[0] * logit + parameters[1]
            error = 1 / (1 + np.exp(-moved)) - truth
            return np.mean(np.logaddexp(0, moved) - truth * moved), np.array([np.mean(error * logit), np.mean(error)])

        fitted.append(
            tuple(optimize.minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=[(0.05, 20), (-20, 20)]).x)
        )
    return np.array(fitted, np.float32).T


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve; None (undefined) where there is one class only, with a warning that gives the counts.

    scores: float [R].
    labels: [R], 0 or 1.
    """
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        logging.warning("AUC is undefined: %d positive and %d negative labels", positives, len(labels) - positives)
        return None
    return float(roc_auc_score(labels, scores))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal size (Naeini et al., 2015).

    Rows of one probability have the mean of their labels each, so that their order says nothing.
    probabilities: float [R].
    labels: [R], 0 or 1.
    """
    values, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    mean_label = np.bincount(place, labels) / counts
    told = np.repeat(values.astype(np.float64), counts)
    seen = np.repeat(mean_label, counts)
    parts = zip(np.array_split(told, bins), np.array_split(seen, bins))
    gaps = [len(part) * abs(part.mean() - truth.mean()) for part, truth in parts if len(part)]
    return float(sum(gaps) / len(told))
