"""Configures TFMA's evaluation of the ranker (metrics by objective, slices, thresholds) and says its verdict."""

from __future__ import annotations

import json

import tensorflow_model_analysis as tfma

from components.config import DataConfig
from pipeline.ranking_metrics import AUC, AUC_LOWER_END, AUC_UPPER_END, BinaryMetrics
from trainer.config.ranking import RankingConfig, broadest_success
from trainer.ranking.features import HISTORY_SLICE, label_key

CHANCE = 0.5  # the AUC of an order that knows nothing
RELIABILITY_BUCKETS = 200  # of a calibration plot, narrow: the report merges them
SIGNATURE = "serve_examples"


def eval_config(data: DataConfig, config: RankingConfig) -> tfma.EvalConfig:
    """AUC, log loss, calibration and counts of each objective, by slice.

    A ranker is blessed where the AUC of the broadest success over all rows is at least `min_auc` (undefined, because
    there is one class only, is below), surely above chance (its whole 95 % interval: few rows prove nothing), and at
    most `max_auc_loss_to_last` lower than that of the last blessed ranker on the same examples, where there is one; and
    in no slice surely below chance. More is not asked of slices: in one of them luck alone goes beyond such limits.
    """
    gate = broadest_success(data.event_rules)
    options = tfma.EvalConfig()
    labels = {name: label_key(name) for name in data.event_rules}
    is_alone = len(labels) == 1  # TFMA takes a single output out of its dict, and then knows no names
    options.model_specs.add(
        signature_name=SIGNATURE, **({"label_key": labels[gate]} if is_alone else {"label_keys": labels})
    )
    for slicing in ([], [HISTORY_SLICE], ["domain"]):
        options.slicing_specs.add(feature_keys=slicing)
    for name in data.event_rules:
        spec = options.metrics_specs.add(output_names=[] if is_alone else [name])
        spec.metrics.add(class_name="CalibrationPlot", config=json.dumps({"num_buckets": RELIABILITY_BUCKETS}))
        spec.metrics.add(class_name=BinaryMetrics.__name__, module=BinaryMetrics.__module__)
        if name == gate:
            of_all = spec.per_slice_thresholds[AUC].thresholds.add(slicing_specs=[tfma.SlicingSpec()]).threshold
            of_all.value_threshold.lower_bound.value = config.min_auc
            of_all.change_threshold.absolute.value = -config.max_auc_loss_to_last
            of_all.change_threshold.direction = tfma.MetricDirection.HIGHER_IS_BETTER
            surely = spec.per_slice_thresholds[AUC_LOWER_END].thresholds.add(slicing_specs=[tfma.SlicingSpec()])
            surely.threshold.value_threshold.lower_bound.value = CHANCE
            spec.thresholds[AUC_UPPER_END].value_threshold.lower_bound.value = CHANCE  # of every slice
    return options


def verdict(folder: str) -> str:
    """What an evaluation with `eval_config` decided, with the numbers: the ranker's AUC and the last blessed one's."""
    decision = tfma.load_validation_result(folder)
    settings = tfma.load_eval_result(folder).config
    results = {spec.is_baseline: tfma.load_eval_result(folder, model_name=spec.name) for spec in settings.model_specs}
    judged = next(spec for spec in settings.metrics_specs if spec.per_slice_thresholds or spec.thresholds)
    output = judged.output_names[0] if judged.output_names else ""
    gate = output or settings.model_specs[0].label_key.removeprefix(label_key(""))
    values = {is_baseline: _value(result, output, AUC) for is_baseline, result in results.items()}
    of_all = judged.per_slice_thresholds[AUC].thresholds
    threshold = of_all[0].threshold if of_all else judged.thresholds[AUC]  # of an older run: in every slice
    text = f"AUC of {gate} {values[False]} (at least {threshold.value_threshold.lower_bound.value:g})"
    if AUC_LOWER_END in judged.per_slice_thresholds:  # not in the evaluations of older runs
        text += (
            f", its 95 % interval from {_value(results[False], output, AUC_LOWER_END)} on (above chance, {CHANCE:g})"
        )
    if True in values:
        loss = -threshold.change_threshold.absolute.value
        text += f", of the last blessed ranker {values[True]} (at most {loss:g} lower)"
    else:
        text += ", no ranker to compare with was blessed before"
    if below := _slices_below_chance(decision):
        text += f"; surely below chance for {', '.join(below)}"
    return f"{'blessed' if decision.validation_ok else 'not blessed, so retrieval orders the list'}: {text}"


def _slices_below_chance(decision: tfma.proto.validation_result_pb2.ValidationResult) -> list[str]:
    return [
        " and ".join(f"{key.column} {key.bytes_value.decode()}" for key in judged.slice_key.single_slice_keys)
        or "all rows"
        for judged in decision.metric_validations_per_slice
        if any(failure.metric_key.name == AUC_UPPER_END for failure in judged.failures)
    ]


def _value(result: tfma.EvalResult, output: str, metric: str) -> str:
    for key, metrics in result.slicing_metrics:
        if key == ():
            return f"{float(next(iter(metrics[output].values()))[metric].get('doubleValue', 'nan')):.4f}"
    raise ValueError("the evaluation holds no metrics of all examples together")
