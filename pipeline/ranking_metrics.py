"""A TFMA metric of one output of the ranker: AUC and how sure it is, log loss, calibration and the number of rows, in
one pass.

TFMA's own metrics go over the rows one by one once more for each of them, of each output, in each slice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from scipy.stats import rankdata
from tensorflow_model_analysis.metrics import metric_types, metric_util

AUC, AUC_LOWER_END, AUC_UPPER_END = "auc", "auc_lower_end", "auc_upper_end"
LOG_LOSS = "binary_crossentropy"
CALIBRATION, ROWS = "calibration", "example_count"
_NORMAL_95 = 1.96  # standard errors from the middle of a 95 % interval to its end
_SMALLEST = 1e-7  # of a probability, in its logarithm


class BinaryMetrics(tfma.metrics.Metric):
    """Metrics of an output with labels 0 and 1, NaN where undefined.

    `auc` (exact), `auc_lower_end` and `auc_upper_end` (of its 95 % interval; the upper one is 1 where undefined, since
    nothing speaks against it), `binary_crossentropy` (mean, nats), `calibration` (mean probability / share of
    positives) and `example_count`.
    """

    def __init__(self, name: str = "binary_metrics"):
        super().__init__(metric_util.merge_per_key_computations(_computations), name=name)


metric_types.register_metric(BinaryMetrics)


class _Rows(NamedTuple):
    """What has been seen of an output, a value a row."""

    labels: array[float]
    probabilities: array[float]


def _computations(
    name: str, eval_config: tfma.EvalConfig | None = None, model_name: str = "", output_name: str = ""
) -> list[metric_types.MetricComputation]:
    keys = {
        metric: metric_types.MetricKey(metric, model_name, output_name, example_weighted=None)
        for metric in (AUC, AUC_LOWER_END, AUC_UPPER_END, LOG_LOSS, CALIBRATION, ROWS)
    }
    return [metric_types.MetricComputation(list(keys.values()), None, _Metrics(keys, eval_config))]


class _Metrics(beam.CombineFn):
    """Gathers labels and probabilities, and makes all metrics of them at the end."""

    def __init__(self, keys: dict[str, metric_types.MetricKey], eval_config: tfma.EvalConfig | None):
        self._keys, self._eval_config = keys, eval_config

    def create_accumulator(self) -> _Rows:
        return _Rows(array("d"), array("d"))

    def add_input(self, rows: _Rows, inputs: Any) -> _Rows:
        key = self._keys[AUC]
        pairs = metric_util.to_label_prediction_example_weight(
            inputs, self._eval_config, key.model_name, key.output_name
        )
        for label, probability, _ in pairs:
            rows.labels.append(label.item())
            rows.probabilities.append(probability.item())
        return rows

    def merge_accumulators(self, accumulators: Iterable[_Rows]) -> _Rows:
        merged = self.create_accumulator()
        for rows in accumulators:
            merged.labels.extend(rows.labels)
            merged.probabilities.extend(rows.probabilities)
        return merged

    def extract_output(self, rows: _Rows) -> dict[metric_types.MetricKey, float]:
        labels, probabilities = np.array(rows.labels), np.array(rows.probabilities)
        values = binary_metrics(labels, probabilities)
        return {self._keys[metric]: value for metric, value in values.items()}


def binary_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The metrics by name. labels: float [R], 0 or 1. probabilities: float [R]."""
    area, error = auc_with_error(labels, probabilities)
    likely = np.clip(np.where(labels > 0, probabilities, 1 - probabilities), _SMALLEST, 1)
    return {
        AUC: area,
        AUC_LOWER_END: area - _NORMAL_95 * error,
        AUC_UPPER_END: 1.0 if np.isnan(error) else area + _NORMAL_95 * error,
        LOG_LOSS: float(-np.log(likely).mean()) if len(labels) else np.nan,
        CALIBRATION: float(probabilities.sum() / labels.sum()) if labels.any() else np.nan,
        ROWS: float(len(labels)),
    }


def auc_with_error(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve and its standard error; NaN where undefined: of one class, with one row of a class.

    labels: float [R], 0 or 1. scores: float [R].
    Source: DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated ROC curves, 1988.
    """
    positive, negative = scores[labels > 0], scores[labels <= 0]
    if not (len(positive) and len(negative)):
        return np.nan, np.nan
    ranks = rankdata(np.concatenate([positive, negative]))
    below = (ranks[: len(positive)] - rankdata(positive)) / len(negative)  # share of negatives below each positive
    above = 1 - (ranks[len(positive) :] - rankdata(negative)) / len(positive)
    if min(len(positive), len(negative)) < 2:
        return float(below.mean()), np.nan
    return float(below.mean()), float(np.sqrt(below.var(ddof=1) / len(below) + above.var(ddof=1) / len(above)))
