"""Full ranking on the test split: the model beside its baselines, in slices, with intervals.

U users of the test split, N items, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from components.config import DataConfig
from components.datasets.interactions import Interactions, latest, read_interactions
from components.datasets.items import available_from_s, read_item_metadata, read_item_words
from components.settings import from_json
from serving.config import EvaluationConfig
from serving.index import load_index
from serving.offline.blessing import Decision, decide, read_last, write_last
from serving.offline.encoding import encode_items, encode_users
from serving.online.cold_start import is_new, vector_of_nobody
from serving.online.recommender import cold_start_scores
from trainer.evaluation import metrics
from trainer.evaluation.baselines import Baseline, ContentKnn, ItemKnn, Popularity, Random, recent_popularity, tf_idf

OURS, RECENT = "ours", "recent_popularity"
ALL = "all"
_KNN_GRID = tuple((neighbours, shrinkage) for neighbours in (20, 100, 500) for shrinkage in (0.0, 10.0, 100.0))


@dataclass(frozen=True)
class TestSet:
    """What is to be found, what is hidden for every contender alike, and what each may know.

    Each user asks once, at the time of the first interaction of the split.
    """

    __test__ = False  # not a test of pytest's

    people: Interactions
    truth: sp.csr_matrix  # [U, N], positive interactions of the split with items that are there and not in the history
    seen: sp.csr_matrix  # [U, N], the whole history, hidden
    histories: sp.csr_matrix  # [U, N], the positive part of the history
    asked_at_s: np.ndarray  # float64 [U], seconds since 1970, NaN where unknown
    available_from_s: np.ndarray  # float64 [N], seconds since 1970, -inf = always
    num_later: int  # positive interactions that are no truth, with items that came after the question

    @classmethod
    def of(cls, people: Interactions, available_from_s: np.ndarray) -> TestSet:
        """The test set of a split. available_from_s: float64 [N], by `components.datasets.items.available_from_s`."""
        history, num_items = people.is_history, len(available_from_s)
        asked_at_s = people.asked_at_s(np.arange(len(people)), people.num_history)
        is_later = available_from_s[people.items] > asked_at_s[people.user_rows]
        seen = people.matrix(history, num_items)
        wanted = ~history & people.positives
        target = people.matrix(wanted & ~is_later, num_items)
        truth = sp.csr_matrix(target - target.multiply(seen))
        truth.eliminate_zeros()
        return cls(
            people, truth, seen, people.matrix(history & people.positives, num_items), asked_at_s, available_from_s,
            int((wanted & is_later).sum()),
        )  # fmt: skip

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.available_from_s)

    @property
    def exists(self) -> np.ndarray:
        """bool [N], what is there when the last of the users asks; without times everything."""
        last_s = np.inf if np.isnan(self.asked_at_s).any() else self.asked_at_s.max(initial=-np.inf)
        return self.available_from_s <= last_s

    def unavailable(self, rows: np.ndarray) -> np.ndarray:
        """bool [B, N], what is not there yet when users int [B] ask."""
        return self.available_from_s > self.asked_at_s[rows, None]

    def digest(self) -> str:
        """Equal where the same users are to find the same things among the same number of items."""
        state = hashlib.blake2b(json.dumps([self.people.user_ids, self.num_items]).encode(), digest_size=16)
        state.update(self.available_from_s.tobytes())
        for matrix in (self.truth, self.seen):
            state.update(matrix.indptr.astype(np.int64).tobytes() + matrix.indices.astype(np.int64).tobytes())
        return state.hexdigest()


@dataclass(frozen=True)
class Slice:
    """A part of the question: whose lists, ranking what, to find what."""

    name: str
    rows: np.ndarray  # int [B], users
    truth_items: np.ndarray  # bool [N], what counts as found
    candidates: np.ndarray  # bool [N], what is ranked


def evaluate_retrieval(
    model_path: str,
    index_folder: str,
    sequence_folders: Mapping[str, str],
    items_folder: str,
    folder: str,
    blessed_folder: str,
    evaluation: str,
    data: str,
) -> Decision:
    """Evaluate a model and its index, write `metrics.json`, and decide whether it may be published.

    sequence_folders: split -> folder, of train, eval and test. items_folder: item examples. blessed_folder: where the
    last blessed model is remembered between runs; written when this one is blessed. evaluation, data: EvaluationConfig
    and DataConfig as JSON.
    """
    config, rules = from_json(EvaluationConfig, evaluation), from_json(DataConfig, data)
    index, item_ids = load_index(index_folder, kind="exact")
    vectors = index.vectors.numpy()
    train, valid, test = (read_interactions(sequence_folders[split], item_ids) for split in ("train", "eval", "test"))
    facts = read_item_metadata(items_folder, item_ids)
    num_items = len(item_ids)
    taken = train.matrix(train.positives, num_items)
    from_s = available_from_s(facts, rules, (train, valid, test))
    questions, validation = TestSet.of(test, from_s), TestSet.of(valid, from_s)
    known = latest([train, valid])
    recent = recent_popularity(known.items[known.positives], known.times_s[known.positives], num_items)
    cold_start = cold_start_scores(recent, facts.published_at_s)

    def ours(model: Any, item_vectors: np.ndarray) -> metrics.ScoreBlock:
        users = encode_users(model.signatures["user_tower"], item_vectors, test, test.num_history, rules.history_length)
        new = is_new(
            users, test.num_history, vector_of_nobody(model.signatures["user_tower"], item_vectors.shape[1])
        ).numpy()
        return lambda rows: np.where(new[rows, None], cold_start, users[rows] @ item_vectors.T)

    text_knn = ContentKnn(tf_idf(read_item_words(items_folder, item_ids)), "text_knn")
    knn = tuned_item_knn(taken, validation, config)
    fitted: dict[str, Baseline] = {
        baseline.name: baseline.fit(taken) for baseline in (Popularity(), Random(config.seed), knn, text_knn)
    }
    contenders = {OURS: ours(tf.saved_model.load(model_path), vectors)}
    contenders |= {name: _scores_of(baseline, questions.histories) for name, baseline in fitted.items()}
    contenders[RECENT] = lambda rows: np.tile(recent, (len(rows), 1))
    rows, results = [], {}
    for part in slices_of(questions, np.asarray(taken.sum(0)).ravel() == 0, facts.domains, config.active_from):
        results[part.name] = {
            name: evaluate_slice(score, questions, part, config) for name, score in contenders.items()
        }
        rows += table_rows(part.name, results[part.name], config.seed)
    by_name = results[ALL]
    last = read_last(blessed_folder)
    if last and last.data != questions.digest():
        last = last.again(lambda path: _judge_again(path, items_folder, item_ids, questions, ours, config))
    gain = metrics.paired_bootstrap(
        by_name[OURS].values[config.metric], by_name["popularity"].values[config.metric], config.seed
    )
    decision = decide(by_name[OURS].mean(config.metric), by_name["popularity"].mean(config.metric), gain, last, config)
    report = {
        "rows": rows,
        "decision": asdict(decision),
        "users": len(by_name[OURS].rows),
        "users_without_truth": by_name[OURS].users_without_truth,
        "targets_after_question": questions.num_later,
        "item_knn": {"neighbours": knn.neighbours, "shrinkage": knn.shrinkage},
        "data": questions.digest(),
    }
    with tf.io.gfile.GFile(f"{folder}/metrics.json", "w") as file:
        file.write(json.dumps(report, indent=1, ensure_ascii=False))
    if decision.blessed:
        write_last(blessed_folder, model_path, config.metric, decision.value, questions.digest())
    return decision


def slices_of(data: TestSet, is_cold: np.ndarray, domains: np.ndarray, active_from: int) -> Iterator[Slice]:
    """The slices of the table: all; warm, cold, and cold items among themselves; active and new users; domains.

    is_cold: bool [N], not in training. domains: str objects [N].
    """
    everyone, everything = np.arange(len(data.people.user_ids)), np.ones(data.num_items, bool)
    yield Slice(ALL, everyone, everything, everything)
    if is_cold.any():
        yield Slice("warm items", everyone, ~is_cold, everything)
        yield Slice("cold items", everyone, is_cold, everything)
        yield Slice("cold items among cold", everyone, is_cold, is_cold)
    yield Slice("active users", np.flatnonzero(data.people.num_history >= active_from), everything, everything)
    yield Slice("new users", np.flatnonzero(data.people.num_history == 0), everything, everything)
    names = sorted(set(domains) - {""})
    for name in names if len(names) > 1 else ():
        of_domain = domains == name
        yield Slice(f"domain {name}", everyone, of_domain, of_domain)


def table_rows(part: str, results: Mapping[str, metrics.Evaluation], seed: int) -> list[dict[str, Any]]:
    """A row for each contender and metric of a slice; what is undefined is left out."""
    values = {(name, metric): array for name, result in results.items() for metric, array in result.values.items()}
    keyed = metrics.bootstrap_all({f"{name}\n{metric}": array for (name, metric), array in values.items()}, seed)
    rows = []
    for (name, metric), interval in ((key, keyed[f"{key[0]}\n{key[1]}"]) for key in values):
        if not np.isnan(interval.value):
            rows.append({"contender": name, "slice": part, "metric": metric, **asdict(interval)})
    for name, result in results.items():
        for metric, value in result.totals.items():
            if not np.isnan(value):
                whole = {"value": value, "low": None, "high": None, "users": len(result.rows)}
                rows.append({"contender": name, "slice": part, "metric": metric, **whole})
    return rows


def tuned_item_knn(taken: sp.csr_matrix, validation: TestSet, config: EvaluationConfig) -> ItemKnn:
    """The ItemKNN of the grid that is best on validation; the middle one where there is nothing to validate on."""
    everything = np.ones(validation.num_items, bool)
    part = Slice(ALL, np.arange(len(validation.people.user_ids)), everything, everything)
    best, best_value = ItemKnn(), -np.inf
    for neighbours, shrinkage in _KNN_GRID:
        knn = ItemKnn(neighbours, shrinkage)
        value = evaluate_slice(_scores_of(knn.fit(taken), validation.histories), validation, part, config).mean(
            config.metric
        )
        if value > best_value:
            best, best_value = knn, value
    return best


def _scores_of(baseline: Baseline, histories: sp.csr_matrix) -> metrics.ScoreBlock:
    return lambda rows: baseline.scores(histories[rows])


def evaluate_slice(
    score: metrics.ScoreBlock, data: TestSet, part: Slice, config: EvaluationConfig
) -> metrics.Evaluation:
    """One contender on one slice."""
    truth = sp.csr_matrix(data.truth.multiply(part.truth_items[None]))
    candidates = part.candidates & data.exists
    return metrics.evaluate(
        score, truth, data.seen, config.cutoffs, candidates, part.rows, unavailable=data.unavailable
    )


def _judge_again(
    path: str, items_folder: str, item_ids: list[str], data: TestSet, ours: Any, config: EvaluationConfig
) -> float:
    """An older model on today's data, from raw item features on, through the transform that it carries."""
    model = tf.saved_model.load(path)
    vectors = encode_items(model.signatures["encode_item"], items_folder, item_ids)
    everything = np.ones(data.num_items, bool)
    part = Slice(ALL, np.arange(len(data.people.user_ids)), everything, everything)
    return evaluate_slice(ours(model, vectors), data, part, config).mean(config.metric)
