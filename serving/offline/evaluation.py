"""Offline evaluation: full ranking on the test split, the model beside baselines, in slices, with intervals.

U users of the test split, N items.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from components.config import DataConfig
from components.datasets.interactions import MOST_JUDGED, Interactions, latest, read_interactions
from components.datasets.items import available_from_s, read_item_metadata, read_item_words
from serving.config import EvaluationConfig
from serving.index import load_index
from serving.loaded import load_once
from serving.offline.blessing import Decision, LastBlessed, decide, read_last, write_last
from serving.offline.encoding import encode_items, encode_users
from serving.online.cold_start import cold_start_scores, empty_user_embedding, is_cold_start
from trainer.evaluation import metrics
from trainer.evaluation.baselines import Baseline, ContentKnn, ItemKnn, Popularity, Random, recent_popularity, tf_idf
from trainer.privacy_report import read_report

OURS, RECENT = "ours", "recent_popularity"
ALL = "all"
_KNN_NEIGHBOURS, _KNN_SHRINKAGES = (20, 100, 500), (0.0, 10.0, 100.0)


@dataclass(frozen=True)
class TestSet:
    """Relevant items, items excluded for every method alike, and what each method may know.

    Each user asks once, at the time of the first interaction of the split.
    """

    __test__ = False  # not a test of pytest's

    people: Interactions
    truth: sp.csr_matrix  # [U, N], positive interactions of the split with items that are there and not in the history
    seen: sp.csr_matrix  # [U, N], the whole history, excluded
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
    """A part of the evaluation: whose lists, ranking which items, to find which."""

    name: str
    rows: np.ndarray  # int [num_users], users
    truth_items: np.ndarray  # bool [N], what counts as found
    candidates: np.ndarray  # bool [N], what is ranked


@dataclass(frozen=True)
class JudgedModel:
    """A model and what it is judged on.

    model: SavedModel of the towers.
    index: folder of its item vectors.
    sequences: split -> folder, of train, eval and test.
    items: folder of item examples.
    """

    model: str
    index: str
    sequences: Mapping[str, str]
    items: str


@dataclass(frozen=True)
class RetrievalMethod:
    """A retrieval model as it is served: dot products of vectors, and the order for users of whom nothing is known.

    history_length: of a longer history the most recent interactions count.
    cold_start: float32 [N], the scores for users of whom nothing is known.
    """

    people: Interactions
    history_length: int
    cold_start: np.ndarray

    def scores(self, model: Any, item_vectors: np.ndarray) -> metrics.ScoreBlock:
        """Scores by a loaded model's signature `user_tower`. item_vectors: float32 [N, dim]."""
        tower, num_history = model.signatures["user_tower"], self.people.num_history
        users = encode_users(tower, item_vectors, self.people, num_history, self.history_length)
        is_new = is_cold_start(users, num_history, empty_user_embedding(tower, item_vectors.shape[1])).numpy()
        return lambda rows: np.where(is_new[rows, None], self.cold_start, users[rows] @ item_vectors.T)


def evaluate_retrieval(
    judged: JudgedModel, folder: str, blessed_folder: str, config: EvaluationConfig, data: DataConfig
) -> Decision:
    """Evaluate a model beside the baselines, write `metrics.json` to a folder, decide whether it may be published.

    blessed_folder: where the last blessed model is remembered between runs; written when this one is blessed.
    Raises ComparisonError where the last blessed model is there and cannot be judged on the present data.
    """
    index, item_ids = load_index(judged.index, kind="exact")
    train, valid, test = (read_interactions(judged.sequences[split], item_ids) for split in ("train", "eval", "test"))
    metadata = read_item_metadata(judged.items, item_ids)
    num_items = len(item_ids)
    taken = train.matrix(train.positives, num_items)
    from_s = available_from_s(metadata, data, (train, valid, test))
    questions, validation = (TestSet.of(split.at_most(MOST_JUDGED), from_s) for split in (test, valid))
    known = latest([train, valid])
    recent = recent_popularity(known.items[known.positives], known.times_s[known.positives], num_items)
    ours = RetrievalMethod(questions.people, data.history_length, cold_start_scores(recent, metadata.published_at_s))
    text_knn = ContentKnn(tf_idf(read_item_words(judged.items, item_ids)), "text_knn")
    knn = tuned_item_knn(taken, validation, config)
    fitted: list[Baseline] = [Popularity().fit(taken), Random(config.seed), knn, text_knn.fit(taken)]
    methods = {OURS: ours.scores(load_once(judged.model), index.vectors.numpy())}
    methods |= {baseline.name: _scores_of(baseline, questions.histories) for baseline in fitted}
    methods[RECENT] = lambda rows: np.tile(recent, (len(rows), 1))
    parts = [*slices_of(questions, np.asarray(taken.sum(0)).ravel() == 0, metadata.domains, config.active_from)]
    found = {name: evaluate_slices(score, questions, parts, config) for name, score in methods.items()}
    results = {part.name: {name: by_slice[part.name] for name, by_slice in found.items()} for part in parts}
    rows = [row for part in parts for row in table_rows(part.name, results[part.name], config.seed)]

    def value_of(path: str) -> float:
        """The deciding metric of an older model, from raw item features on, through the transform that it carries."""
        model = load_once(path)
        vectors = encode_items(model.signatures["encode_item"], judged.items, item_ids)
        result = evaluate_slice(ours.scores(model, vectors), questions, everything(questions), config)
        return result.mean(config.metric)

    last = read_last(blessed_folder)
    last = last.on(questions.digest(), config.metric, value_of) if last else None
    decision = _decide(results[ALL], last, config)
    report = {
        "rows": rows,
        "decision": asdict(decision),
        "users": len(results[ALL][OURS].rows),
        "users_without_truth": results[ALL][OURS].users_without_truth,
        "targets_after_question": questions.num_later,
        "item_knn": {"neighbours": knn.neighbours, "shrinkage": knn.shrinkage},
        "data": questions.digest(),
        "trained_until": last_day(train),
    }
    if privacy := read_report(judged.model):
        report["privacy"] = privacy
    with tf.io.gfile.GFile(f"{folder}/metrics.json", "w") as file:
        file.write(json.dumps(report, indent=1, ensure_ascii=False))
    if decision.blessed:
        write_last(blessed_folder, judged.model, config.metric, decision.value, questions.digest())
    return decision


def _decide(by_name: Mapping[str, metrics.Evaluation], last: LastBlessed | None, config: EvaluationConfig) -> Decision:
    ours, popular = by_name[OURS], by_name["popularity"]
    gain = metrics.paired_bootstrap(ours.values[config.metric], popular.values[config.metric], config.seed)
    return decide(ours.mean(config.metric), popular.mean(config.metric), gain, last, config)


def everything(data: TestSet) -> Slice:
    """The slice of everyone and of all items."""
    every_item = np.ones(data.num_items, bool)
    return Slice(ALL, np.arange(len(data.people.user_ids)), every_item, every_item)


def slices_of(data: TestSet, is_cold: np.ndarray, domains: np.ndarray, active_from: int) -> Iterator[Slice]:
    """The slices of the table: all; warm, cold, and cold items among themselves; active and new users; domains.

    is_cold: bool [N], not in training. domains: str objects [N].
    """
    yield (whole := everything(data))
    everyone, every_item = whole.rows, whole.candidates
    if is_cold.any():
        yield Slice("warm items", everyone, ~is_cold, every_item)
        yield Slice("cold items", everyone, is_cold, every_item)
        yield Slice("cold items among cold", everyone, is_cold, is_cold)
    yield Slice("active users", np.flatnonzero(data.people.num_history >= active_from), every_item, every_item)
    yield Slice("new users", np.flatnonzero(data.people.num_history == 0), every_item, every_item)
    names = sorted(set(domains) - {""})
    for name in names if len(names) > 1 else ():
        of_domain = domains == name
        yield Slice(f"domain {name}", everyone, of_domain, of_domain)


def table_rows(part: str, results: Mapping[str, metrics.Evaluation], seed: int) -> list[dict[str, Any]]:
    """A row for each method and metric of a slice; what is undefined is left out."""
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
    """The ItemKNN of the grid that is best on validation, fitted; the middle one where nothing can be validated."""
    part = everything(validation)
    best, best_value = None, (-np.inf, 0)
    for widest in ItemKnn.fit_each(taken, max(_KNN_NEIGHBOURS), _KNN_SHRINKAGES):
        for knn in map(widest.narrowed, _KNN_NEIGHBOURS):
            scores = _scores_of(knn, validation.histories)
            value = evaluate_slice(scores, validation, part, config).mean(config.metric)
            if (ranked := (value, -knn.neighbours)) > best_value:  # of equals the one with fewer neighbours
                best, best_value = knn, ranked
    return best or ItemKnn().fit(taken)


def _scores_of(baseline: Baseline, histories: sp.csr_matrix) -> metrics.ScoreBlock:
    return lambda rows: baseline.scores(histories[rows])


def evaluate_slice(
    score: metrics.ScoreBlock, data: TestSet, part: Slice, config: EvaluationConfig
) -> metrics.Evaluation:
    """One method on one slice."""
    return evaluate_slices(score, data, [part], config)[part.name]


def evaluate_slices(
    score: metrics.ScoreBlock, data: TestSet, parts: Sequence[Slice], config: EvaluationConfig
) -> dict[str, metrics.Evaluation]:
    """One method on each slice; those with the same candidates are judged by the same lists."""
    alike: dict[bytes, list[Slice]] = {}
    for part in parts:
        alike.setdefault(part.candidates.tobytes(), []).append(part)
    found: dict[str, metrics.Evaluation] = {}
    for group in alike.values():
        wanted = [
            metrics.Wanted(sp.csr_matrix(data.truth.multiply(part.truth_items[None])), part.rows) for part in group
        ]
        candidates = group[0].candidates & data.exists
        results = metrics.evaluate_all(
            score, wanted, data.seen, config.cutoffs, candidates, unavailable=data.unavailable
        )
        found |= {part.name: result for part, result in zip(group, results)}
    return found


def last_day(interactions: Interactions) -> str:
    """The date of the last interaction (UTC), "an unknown day" where none has a time."""
    times_s = interactions.times_s[~np.isnan(interactions.times_s)]
    if not len(times_s):
        return "an unknown day"
    return datetime.datetime.fromtimestamp(times_s.max(), datetime.timezone.utc).date().isoformat()
