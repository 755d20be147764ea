"""Two references for a made world, whose ground truth is known: the oracle, and a linear user model on the true
traits.

They are evaluated by the evaluator's own code, on its test set, in its slices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.config import DataConfig
from components.datasets.interactions import MOST_JUDGED, Interactions, read_interactions
from components.datasets.items import available_from_s, read_item_metadata
from pipeline.sources.demo.ground_truth import Feedback, linear_scores, load_truth, oracle_scores, tune_linear
from serving.config import EvaluationConfig
from serving.index import load_index
from serving.offline.evaluation import TestSet, evaluate_slice, slices_of, table_rows

ORACLE, LINEAR = "oracle (true affinity)", "linear on true traits"


def rows(
    truth_path: Path, index_folder: Path, sequences: Path, items: Path, config: EvaluationConfig, data: DataConfig
) -> list[dict[str, Any]]:
    """Rows as in `metrics.json` for both bounds.

    truth_path: `truth.npz` of the world. index_folder, sequences, items: folders of a run's artifacts. The linear model
    learns from train and eval, which is what ours is given as history, and is tuned on eval.
    """
    truth = load_truth(truth_path)
    _, item_ids = load_index(str(index_folder), kind="exact")
    train, valid, test = (
        read_interactions(str(sequences / f"Split-{split}"), item_ids) for split in ("train", "eval", "test")
    )
    metadata = read_item_metadata(str(items / "Split-train"), item_ids)
    questions = TestSet.of(test.at_most(MOST_JUDGED), available_from_s(metadata, data, (train, valid, test)))
    people = questions.people
    settings = tune_linear(
        truth,
        _feedback(train, item_ids, np.ones(len(train.items), bool)),
        _feedback(valid, item_ids, ~valid.is_history),
    )
    known = _feedback(people, item_ids, people.is_history)
    scores = {
        ORACLE: oracle_scores(truth, people.user_ids, item_ids, questions.asked_at_s.tolist()),
        LINEAR: linear_scores(truth, known, people.user_ids, item_ids, settings),
    }
    is_cold = np.asarray(train.matrix(train.positives, len(item_ids)).sum(0)).ravel() == 0
    found: list[dict[str, Any]] = []
    for part in slices_of(questions, is_cold, metadata.domains, config.active_from):
        results = {name: evaluate_slice(matrix.__getitem__, questions, part, config) for name, matrix in scores.items()}
        found += table_rows(part.name, results, config.seed)
    return found


def _feedback(people: Interactions, item_ids: list[str], chosen: np.ndarray) -> Feedback:
    rows_of = people.user_rows
    return Feedback(
        user_ids=[people.user_ids[row] for row in rows_of[chosen]],
        item_ids=[item_ids[position] for position in people.items[chosen]],
        positives=people.positives[chosen],
    )
