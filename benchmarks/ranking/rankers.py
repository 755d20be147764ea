"""DeepFM, what it grows from, and the order of retrieval on the same ranking examples of a finished run.

All are trained on its train split, stopped and calibrated on its eval split. Probabilities are judged on the examples
of the test split, the order on the whole of retrieval's list at the time of each of them. R examples, Q queries, O
objectives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.metrics import log_loss

from benchmarks.cold_demo import newest
from benchmarks.ranking import row
from components.settings import to_json
from pipeline import config as configuration
from serving.offline.ranking_examples import write_ranking_examples
from trainer.config.ranking import RankingConfig, broadest_success, utility_weights
from trainer.ranking.calibration import auc, calibration_error
from trainer.ranking.deepfm import DeepFM, FactorizationMachine, LogisticRegression
from trainer.ranking.features import POSITION, QUERY_ID, RankingExamples, read_examples
from trainer.ranking.run import Ranker, build_ranker

SEEDS = (7, 8, 9)
OURS, RETRIEVAL = "ours", "retrieval order"
KINDS: dict[str, type[LogisticRegression]] = {
    OURS: DeepFM,
    "logistic regression": LogisticRegression,
    "FM": FactorizationMachine,
}
LEARNING_RATES = (1e-3, 3e-3, 1e-2)  # of which each peer has the best on validation; ours keeps the product's
TEST_EXAMPLES = 60_000
LISTED_QUERIES = 1000  # each with the whole list
CUTOFF = 10
RESAMPLES = 300  # of people
_ROWS_AT_ONCE = 8192
_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "AUC": auc,
    "log loss": lambda probabilities, labels: float(log_loss(labels, probabilities, labels=(0, 1))),
    "ECE": calibration_error,
}


@dataclass(frozen=True)
class Examples:
    """Ranking examples as read. people: whose query each row is, int [R]; queries: which, int [R], ascending."""

    features: dict[str, np.ndarray]
    labels: np.ndarray  # float32 [R, O]
    people: np.ndarray
    queries: np.ndarray

    @classmethod
    def read(cls, folder: Path, data: Any) -> Examples:
        """All examples of a split's folder."""
        files = sorted(map(str, folder.glob("*")))
        spec = {QUERY_ID: tf.io.FixedLenFeature([], tf.string)}
        batches = [
            tf.io.parse_example(batch, spec)[QUERY_ID].numpy()
            for batch in tf.data.TFRecordDataset(files, "GZIP").batch(4096)
        ]
        ids = np.concatenate(batches).astype(str)
        _, people = np.unique([name.partition("\n")[0] for name in ids], return_inverse=True)
        queries = np.cumsum(np.concatenate([[0], (ids[1:] != ids[:-1]).astype(int)]))
        features, labels, _ = read_examples(files, data)
        return cls(features, labels, people, queries)


def compare(case: str, config_path: Path) -> list[dict[str, Any]]:
    """Rows of every contender, each metric with its 95 % interval over the people of the test split, averaged over the
    seeds."""
    config = configuration.localised(configuration.load(config_path))
    artifacts, data = config.work_path / "artifacts", config.data
    examples = newest(artifacts / "RankingExamples" / "examples")
    train, valid = (
        read_examples(sorted(map(str, (examples / f"Split-{split}").glob("*"))), data) for split in ("train", "eval")
    )
    per_query = 1 + config.ranking.negatives_from_list + config.ranking.negatives_from_catalogue
    length = config.serving.index.candidates
    whole = replace(
        config.ranking,
        negatives_from_list=length,
        negatives_from_catalogue=0,
        max_test_examples=LISTED_QUERIES * (length + 1),
    )
    test = _test_split(config, replace(config.ranking, max_test_examples=TEST_EXAMPLES // per_query * per_query))
    listed = _test_split(config, whole)

    gate = list(data.event_rules).index(broadest_success(data.event_rules))
    weights = np.array(list(utility_weights(data.event_rules, config.ranking).values()))
    orders = {RETRIEVAL: [ndcg_of_queries(-listed.features[POSITION].astype(float), listed, gate)]}
    predicted: dict[str, list[np.ndarray]] = {}
    for name, kind in KINDS.items():
        settings = config.ranking if name == OURS else _chosen(kind, train, valid, config)
        rankers = [build_ranker(kind, train, valid, data, replace(settings, seed=seed)) for seed in SEEDS]
        predicted[name] = [_probabilities(ranker, test.features) for ranker in rankers]
        orders[name] = [
            ndcg_of_queries(_probabilities(ranker, listed.features) @ weights, listed, gate) for ranker in rankers
        ]
        print(f"{case}: {name}, AUC {auc(predicted[name][0][:, gate], test.labels[:, gate])}", flush=True)

    rows = []
    for name, probabilities in predicted.items():
        for metric, function in _METRICS.items():

            def mean(chosen: np.ndarray, function=function, probabilities=probabilities) -> float:
                return float(np.mean([function(one[chosen, gate], test.labels[chosen, gate]) for one in probabilities]))

            rows.append(row(case, name, metric, *over_people(mean, test.people), len(SEEDS)))
    for column, objective in enumerate(data.event_rules):
        if objective != broadest_success(data.event_rules) and 0 < test.labels[:, column].mean() < 1:
            values = [calibration_error(one[:, column], test.labels[:, column]) for one in predicted[OURS]]
            rows.append(row(case, OURS, f"ECE, {objective}", float(np.mean(values)), None, len(SEEDS)))

    firsts = np.flatnonzero(np.diff(listed.queries, prepend=-1))
    asking = listed.people[firsts][listed.labels[firsts, gate] > 0]
    means = {name: np.mean(per_seed, 0) for name, per_seed in orders.items()}
    for name, values in means.items():
        runs = len(orders[name])
        rows.append(
            row(
                case,
                name,
                f"NDCG@{CUTOFF}",
                *over_people(partial(_mean_of, values), asking),
                runs,
            )
        )
        if name != RETRIEVAL:
            gains = values - means[RETRIEVAL]
            gain, interval = over_people(partial(_mean_of, gains), asking)
            rows.append(row(case, name, f"NDCG@{CUTOFF} gain", gain, interval, runs))
            if name == OURS:
                rows.append(row(case, name, f"NDCG@{CUTOFF} gain, lower end", interval[0], None, runs))
    return [*rows, row(case, RETRIEVAL, "queries", len(asking)), row(case, RETRIEVAL, "people", len(set(asking)))]


def ndcg_of_queries(scores: np.ndarray, examples: Examples, gate: int) -> np.ndarray:
    """NDCG@10 of each query whose target is a success, 0 where retrieval's list does not hold it: float64 [Q].

    scores: float [R]. The target is the first row of its query; equal scores rank as in the list.
    """
    place = examples.features[POSITION]
    firsts = np.flatnonzero(np.diff(examples.queries, prepend=-1))
    values = []
    for start, end in zip(firsts, [*firsts[1:], len(scores)]):
        if examples.labels[start, gate] > 0:
            others = slice(start + 1, end)
            is_before = (scores[others] > scores[start]) | (
                (scores[others] == scores[start]) & (place[others] < place[start])
            )
            rank = 1 + int(np.sum(is_before & (place[others] > 0)))
            values.append(1 / np.log2(1 + rank) if place[start] > 0 and rank <= CUTOFF else 0.0)
    return np.array(values)


def _mean_of(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[chosen].mean())


def over_people(
    statistic: Callable[[np.ndarray], float], people: np.ndarray, resamples: int = RESAMPLES
) -> tuple[float, tuple[float, float]]:
    """A statistic of chosen rows (int [S]), of all of them, and its 95 % interval where people are drawn anew with all
    of their rows."""
    generator = np.random.default_rng(0)
    _, codes = np.unique(people, return_inverse=True)
    rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    drawn = [
        statistic(np.concatenate([rows_of[person] for person in generator.integers(len(rows_of), size=len(rows_of))]))
        for _ in range(resamples)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return statistic(np.arange(len(people))), (float(low), float(high))


def _chosen(
    kind: type[LogisticRegression], train: RankingExamples, valid: RankingExamples, config: configuration.Config
) -> RankingConfig:
    """The settings of a peer: of some learning rates the one of the lowest log loss on validation."""

    def loss(settings: RankingConfig) -> float:
        probabilities = _probabilities(build_ranker(kind, train, valid, config.data, settings), valid.features)
        columns = zip(valid.labels.T, probabilities.T)
        return float(np.mean([log_loss(truth, told, labels=(0, 1)) for truth, told in columns]))

    tried: Sequence[RankingConfig] = [replace(config.ranking, learning_rate=rate) for rate in LEARNING_RATES]
    return min(tried, key=loss)


def _probabilities(ranker: Ranker, features: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [R, O]."""
    starts = range(0, len(features[POSITION]), _ROWS_AT_ONCE)
    parts = [
        {name: tf.constant(values[start : start + _ROWS_AT_ONCE]) for name, values in features.items()}
        for start in starts
    ]
    return np.concatenate([ranker.probabilities(part).numpy() for part in parts])


def _test_split(config: configuration.Config, ranking: RankingConfig) -> Examples:
    artifacts = config.work_path / "artifacts"
    sequences = newest(artifacts / "Interactions" / "sequences")
    with tempfile.TemporaryDirectory() as folder:
        write_ranking_examples(
            str(newest(artifacts / "RetrievalTrainer" / "model") / "Format-Serving"),
            str(newest(artifacts / "ItemIndex" / "index")),
            {split: str(sequences / f"Split-{split}") for split in ("train", "eval", "test")},
            str(newest(artifacts / "MediaFeatures" / "examples") / "Split-train"),
            {"test": folder},
            to_json(config.data),
            to_json(ranking),
            config.serving.index.candidates,
        )
        return Examples.read(Path(folder), config.data)
