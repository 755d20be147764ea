"""The ranker's metrics in TFMA: values by hand, rows in any order and in any parts."""

import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from pipeline.ranking_metrics import (
    AUC,
    AUC_LOWER_END,
    AUC_UPPER_END,
    CALIBRATION,
    LOG_LOSS,
    ROWS,
    BinaryMetrics,
    auc_with_error,
    binary_metrics,
)

LABELS, PROBABILITIES = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.1, 0.4, 0.6])


def test_values_by_hand():
    """Of four pairs of a positive and a negative three are in order.

    One positive is above both negatives and one above one of them, and likewise for negatives: so the variance of the
    AUC is (1/8 + 1/8) / 2.
    """
    values = binary_metrics(LABELS, PROBABILITIES)
    log_loss, half = -np.mean(np.log([0.9, 0.9, 0.4, 0.4])), 1.96 * np.sqrt(1 / 8)
    ends = {AUC_LOWER_END: 0.75 - half, AUC_UPPER_END: 0.75 + half}
    assert values == pytest.approx({AUC: 0.75, **ends, LOG_LOSS: log_loss, CALIBRATION: 1.0, ROWS: 4})


def test_the_standard_error_is_how_far_the_auc_lies_from_sample_to_sample():
    """Of 400 samples of two normals a deviation apart, with ties; 40 positives and 120 negatives each."""
    random, labels = np.random.default_rng(0), np.repeat([1.0, 0.0], [40, 120])
    found = np.array([auc_with_error(labels, np.round(random.normal(labels), 1)) for _ in range(400)])
    assert found[:, 0].mean() == pytest.approx(0.760, abs=0.01)  # of the normal distribution at 1 / sqrt(2)
    assert found[:, 0].std() == pytest.approx(np.sqrt((found[:, 1] ** 2).mean()), rel=0.1)
    by_chance = np.array([auc_with_error(labels, random.normal(size=160)) for _ in range(400)])
    assert 0.005 < (by_chance[:, 0] - 1.96 * by_chance[:, 1] > 0.5).mean() < 0.05


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_no_auc_and_certainty_that_is_wrong_a_finite_loss(label):
    values = binary_metrics(np.full(3, label), np.full(3, 1 - label))
    assert (
        np.isnan(values[AUC]) and np.isnan(values[AUC_LOWER_END]) and values[LOG_LOSS] == pytest.approx(-np.log(1e-7))
    )
    assert np.isnan(values[CALIBRATION]) if not label else values[CALIBRATION] == 0


def test_one_positive_has_an_auc_but_nothing_is_sure_of_it():
    values = binary_metrics(np.array([1.0, 0, 0]), np.array([0.9, 0.1, 0.2]))
    assert values[AUC] == values[AUC_UPPER_END] == 1 and np.isnan(values[AUC_LOWER_END])


def test_a_slice_without_rows_has_no_values():
    values = binary_metrics(np.zeros(0), np.zeros(0))
    assert (
        values.pop(ROWS) == 0 and values.pop(AUC_UPPER_END) == 1 and all(np.isnan(value) for value in values.values())
    )


@pytest.mark.parametrize("split", [0, 1, 3, 4])
def test_parts_of_the_rows_count_as_the_whole(split):
    """As Beam gathers them: each part by itself, then merged; every output and model by its own name."""
    (of_play, of_like) = BinaryMetrics().computations(model_names=["m"], output_names=["play", "like"])
    rows = [
        metric_types.StandardMetricInputs(
            labels={"m": {"play": np.array([label]), "like": np.array([1 - label])}},
            predictions={"m": {"play": np.array([chance]), "like": np.array([1 - chance])}},
            example_weights=None,
        )
        for label, chance in zip(LABELS, PROBABILITIES)
    ]
    for computation, name in ((of_play, "play"), (of_like, "like")):
        combiner, parts = computation.combiner, []
        for part in (rows[split:], rows[:split]):
            gathered = combiner.create_accumulator()
            for row in part:
                gathered = combiner.add_input(gathered, row)
            parts.append(gathered)
        values = combiner.extract_output(combiner.merge_accumulators(parts))
        assert set(values) == set(computation.keys) and {key.output_name for key in values} == {name}
        assert {key.name: value for key, value in values.items()}[AUC] == pytest.approx(0.75)
        assert {key.name: value for key, value in values.items()}[ROWS] == 4
