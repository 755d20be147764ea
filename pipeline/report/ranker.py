"""The ranker's evaluation by TFMA: AUC and log loss by slice, and how well its probabilities are calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.run_history import RunRecord

MOST_POINTS = 10  # of a reliability diagram


@dataclass(frozen=True)
class Reliability:
    """One point of a reliability diagram: rows with similar probabilities."""

    predicted: float  # mean probability
    observed: float  # share of positive labels
    rows: int


@dataclass(frozen=True)
class Objective:
    """One kind of event that the ranker predicts, on the test split."""

    name: str
    auc: float
    log_loss: float
    calibration: float  # mean probability / share of positives; 1 is right
    reliability: list[Reliability]  # empty where the run did not record it
    auc_of_slices: dict[str, float]


@dataclass(frozen=True)
class Ranker:
    """What TFMA says of a ranker."""

    is_blessed: bool
    verdict: str
    objectives: list[Objective]


def read_ranker(run: RunRecord) -> Ranker | None:
    """The evaluation of a run's ranker; None where it has none."""
    folder = run.output("RankingEvaluator", "evaluation")
    if folder is None:
        return None
    import tensorflow_model_analysis as tfma

    from pipeline.ranking_evaluation import verdict
    from trainer.ranking.features import label_key

    specs = tfma.load_eval_result(str(folder)).config.model_specs
    judged = next(spec.name for spec in specs if not spec.is_baseline)
    candidate = tfma.load_eval_result(str(folder), model_name=judged)
    by_slice = dict(candidate.slicing_metrics)
    plots = dict(candidate.plots).get((), None) or {}
    names = [spec.output_names[0] if spec.output_names else "" for spec in candidate.config.metrics_specs]
    alone = specs[0].label_key.removeprefix(label_key(""))  # a single objective has no output name
    objectives = [_objective(name, name or alone, by_slice, plots) for name in dict.fromkeys(names)]
    return Ranker(bool(run.nodes["RankingEvaluator"].properties.get("blessed")), verdict(str(folder)), objectives)


def _objective(output: str, name: str, by_slice: dict[tuple, Any], plots: dict[str, Any]) -> Objective:
    def value(part: tuple, metric: str) -> float:
        return float(
            next(iter(by_slice[part][output].values()))[metric].get("doubleValue", "nan")
        )  # "NaN" where undefined

    return Objective(
        name=name,
        auc=value((), "auc"),
        log_loss=value((), "binary_crossentropy"),
        calibration=value((), "calibration"),
        reliability=_reliability(plots[output]) if output in plots else [],
        auc_of_slices={f"{part[0][0]} {part[0][1]}": value(part, "auc") for part in by_slice if part},
    )


def _reliability(plots: dict[str, Any]) -> list[Reliability]:
    """TFMA's many narrow buckets, merged into a few of about equally many rows."""
    (histogram,) = (plot["calibrationHistogramBuckets"] for plot in plots.values())
    filled = [
        (_number(bucket, "numWeightedExamples"), _number(bucket, "totalWeightedRefinedPrediction"),
         _number(bucket, "totalWeightedLabel"))
        for bucket in histogram["buckets"]
    ]  # fmt: skip
    filled = [bucket for bucket in filled if bucket[0]]
    total = sum(rows for rows, _, _ in filled)
    points, rows, predicted, observed = [], 0.0, 0.0, 0.0
    for bucket in filled:
        rows, predicted, observed = rows + bucket[0], predicted + bucket[1], observed + bucket[2]
        if rows >= total / MOST_POINTS or bucket is filled[-1]:
            points.append(Reliability(predicted / rows, observed / rows, round(rows)))
            rows, predicted, observed = 0.0, 0.0, 0.0
    return points


def _number(bucket: dict[str, Any], name: str) -> float:
    """A number of a bucket; protobuf's JSON leaves zeros out, and wraps doubles."""
    value = bucket.get(name, 0.0)
    return float(value.get("value", 0.0) if isinstance(value, dict) else value)
