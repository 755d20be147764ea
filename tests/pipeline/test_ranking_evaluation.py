"""TFMA judges rankers in a small DAG of the real nodes: a good one is blessed, a worse one and one that has learned
nothing are refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.artifacts import prepare_examples, split_uri
from pipeline import dags
from pipeline.console import _account
from pipeline.local_runner import run_locally
from pipeline.ranking_evaluation import eval_config
from pipeline.ranking_metrics import AUC, AUC_LOWER_END, AUC_UPPER_END
from pipeline.report.ranker import read_ranker
from pipeline.run_history import read_runs
from tests.trainer.ranking.test_deepfm import CONFIG, DATA, rows
from trainer.config.engine import EngineConfig
from trainer.ranking.features import HISTORY_SLICE, QUERY_ID, label_key

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

WORSE = dataclasses.replace(CONFIG, epochs=1, learning_rate=0.002)  # the same, stopped long before it is good


@component
def MadeExamples(examples: OutputArtifact[Examples], fault: Parameter[str]) -> None:
    """Ranking examples of random people; what is similar is played. A slice of ten rows has no play at all.

    fault: chance: plays are by chance; slice: of people with a short history, in the test, the opposite is played.
    """
    from tensorflow.io import TFRecordWriter

    from serving.offline.ranking_examples import _serialized

    splits = {"train": (1500, 0), "eval": (500, 1), "test": (500, 2)}
    prepare_examples(examples, list(splits))
    for split, (count, seed) in splits.items():
        features, labels, _ = rows(count, seed)
        labels = np.random.default_rng(seed).permutation(labels) if fault == "chance" else labels
        plays = labels[:, list(DATA.event_rules).index("play")]
        lengths = np.where(np.arange(count) < 10, b"rare", np.where(np.arange(count) % 4, b"long", b"short"))
        plays[lengths == b"rare"] = 0
        if fault == "slice" and split == "test":
            plays[lengths == b"short"] = 1 - plays[lengths == b"short"]
        Path(split_uri(examples, split)).mkdir(parents=True, exist_ok=True)
        with TFRecordWriter(f"{split_uri(examples, split)}/data-00000-of-00001.gz", "GZIP") as writer:
            for row in range(count):
                values = {name: array[row] for name, array in features.items()}
                values |= {label_key(name): label for name, label in zip(DATA.event_rules, labels[row])}
                writer.write(_serialized(values | {QUERY_ID: str(row // 10).encode(), HISTORY_SLICE: lengths[row]}))


def run(folder, config, fault=""):
    examples = MadeExamples(fault=fault)
    judged = dags.ranker_nodes(examples.outputs["examples"], DATA, config, EngineConfig(), knows_last=True)
    stages = run_locally([examples, *judged], "rankers", folder, lambda *_: None, lambda _: None)
    stage = stages["RankingEvaluator"]
    (blessing,) = stage.outputs["blessing"]
    return stage.cached, bool(blessing.get_int_custom_property("blessed")), _account(stage)[0]


def test_the_first_is_blessed_a_worse_one_is_refused_and_the_same_one_is_not_judged_again(tmp_path):
    """C44: the reason names both numbers; TFMA's slices are there, one with a single class; a repeated run is answered
    from the cache."""
    cached, blessed, reason = run(tmp_path, CONFIG)
    assert not cached and blessed and "no ranker to compare with was blessed before" in reason
    first = float(reason.split("AUC of play ")[1].split()[0])
    assert first > 0.85
    assert run(tmp_path, CONFIG) == (True, True, reason)

    trained, cached_run = read_runs(tmp_path)
    assert trained.nodes["RankingTrainer"].processor_seconds > 0 and trained.nodes["RankingTrainer"].state == "done"
    assert cached_run.nodes["RankingTrainer"].state == "cached"
    assert repr(read_ranker(cached_run)) == repr(read_ranker(trained))  # a rating nobody gave has no AUC: NaN
    play = next(one for one in read_ranker(trained).objectives if one.name == "play")
    assert round(play.auc, 4) == first and sum(point.rows for point in play.reliability) == 500

    cached, blessed, reason = run(tmp_path, WORSE)
    refused = read_ranker(read_runs(tmp_path)[-1])
    assert not refused.is_blessed and refused.verdict == reason, "the report tells of the judged one, not of the last"
    worse = float(reason.split("AUC of play ")[1].split()[0])
    assert round(next(one for one in refused.objectives if one.name == "play").auc, 4) == worse
    assert not cached and not blessed and CONFIG.min_auc < worse < first - CONFIG.max_auc_loss_to_last
    assert (
        reason.startswith("not blessed") and f"of the last blessed ranker {first:.4f} (at most 0.005 lower)" in reason
    )


def test_one_that_has_learned_nothing_is_refused_whatever_luck_gives(tmp_path):
    """Even where an AUC of .5 would do, its interval of 95 % must lie above."""
    _, blessed, reason = run(tmp_path, dataclasses.replace(CONFIG, min_auc=0.5), "chance")
    lower_end = float(reason.split("interval from ")[1].split()[0])
    assert not blessed and reason.startswith("not blessed") and lower_end < 0.5
    assert abs(float(reason.split("AUC of play ")[1].split()[0]) - 0.5) < 0.1


def test_one_that_is_surely_wrong_in_a_slice_is_refused_and_the_slice_named(tmp_path):
    _, blessed, reason = run(tmp_path, CONFIG, "slice")
    assert not blessed and float(reason.split("interval from ")[1].split()[0]) > 0.5, "over all rows it would do"
    assert reason.endswith(f"surely below chance for {HISTORY_SLICE} short")


def test_luck_in_a_slice_refuses_no_ranker():
    """In ten rows an AUC is above no limit for sure and moves by more than is allowed; with one class there is none."""
    (judged,) = (spec for spec in eval_config(DATA, CONFIG).metrics_specs if spec.per_slice_thresholds)
    assert set(judged.thresholds) == {AUC_UPPER_END} and set(judged.per_slice_thresholds) == {AUC, AUC_LOWER_END}
    for limits in judged.per_slice_thresholds.values():
        (of_all,) = limits.thresholds
        assert [spec.feature_keys for spec in of_all.slicing_specs] == [[]]
    surely = judged.per_slice_thresholds[AUC_LOWER_END].thresholds[0].threshold
    assert surely.value_threshold.lower_bound.value == 0.5
    assert judged.thresholds[AUC_UPPER_END].value_threshold.lower_bound.value == 0.5


def test_a_single_objective_has_no_output_names():
    """TFMA takes a single output out of its dict: a name would be looked for in vain."""
    alone = eval_config(dataclasses.replace(DATA, event_rules={"rating": DATA.event_rules["rating"]}), CONFIG)
    assert alone.model_specs[0].label_key == "label_rating" and not alone.model_specs[0].label_keys
    assert not any(spec.output_names for spec in alone.metrics_specs)
    assert all(spec.output_names for spec in eval_config(DATA, CONFIG).metrics_specs)
