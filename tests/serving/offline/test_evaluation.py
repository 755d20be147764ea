"""What is asked in an evaluation: each user at one moment, for what is there by then."""

import numpy as np

from components.config import DataConfig, TableConfig
from components.datasets.items import ItemMetadata, available_from_s
from serving.config import EvaluationConfig
from serving.offline.evaluation import ALL, Slice, TestSet, evaluate_slice
from tests.serving import tiny

ALWAYS = -np.inf
CONFIG = EvaluationConfig(cutoffs=(1, 2), metric="NDCG@2", min_gain_over_popularity=0.0, max_loss_to_last=1.0)
TABLES = {"catalogue": TableConfig(""), "events": TableConfig("")}


def metadata(published_at_s):
    size = len(published_at_s)
    empty = np.full(size, "", object)
    return ItemMetadata(
        empty, empty, np.zeros((size, 0), object), np.zeros((size, 1), np.float32), np.array(published_at_s)
    )


def test_an_item_is_available_from_its_publication_or_from_its_first_event():
    """Item 0 has a date, item 1 its first event at 20 s in one split and at 30 s in the other, item 2 neither."""
    dated = metadata([50.0, np.nan, np.nan])
    splits = tiny.interactions_of(([0, 1], [10, 30], 0)), tiny.interactions_of(([1], [20], 0))
    assert available_from_s(dated, DataConfig(**TABLES), splits).tolist() == [50, ALWAYS, ALWAYS]
    first = DataConfig(**TABLES, undated_items="from_first_event")
    assert available_from_s(dated, first, splits).tolist() == [50, 20, ALWAYS]
    assert available_from_s(dated, first).tolist() == [50, ALWAYS, ALWAYS]


def test_what_comes_after_the_question_is_neither_candidate_nor_truth():
    """The first user asks at 20 s and the second at 40 s; item 2 appears at 30 s, item 3 at 50 s."""
    people = tiny.interactions_of(([0, 1, 2], [10, 20, 35], 1), ([0, 2, 3], [10, 40, 60], 1))
    questions = TestSet.of(people, np.array([ALWAYS, ALWAYS, 30, 50]))
    assert questions.truth.toarray().tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]] and questions.num_later == 2
    assert questions.unavailable(np.array([0, 1])).tolist() == [[False, False, True, True], [False] * 3 + [True]]
    assert questions.exists.tolist() == [True, True, True, False]


def test_without_a_time_everything_is_there():
    people = tiny.interactions_of(([0, 1], [np.nan, np.nan], 1))
    questions = TestSet.of(people, np.array([ALWAYS, 30.0]))
    assert questions.exists.all() and questions.truth.toarray().tolist() == [[0, 1]] and questions.num_later == 0


def test_items_to_come_fill_no_list_of_any_method():
    """Six of ten items appear after the last event: a method that puts them first finds the target as one that does
    not."""
    users = tiny.interactions_of(*(([row % 3, 3], [10, 20], 1) for row in range(30)))
    questions = TestSet.of(users, np.array([ALWAYS] * 4 + [100.0] * 6))
    part = Slice(ALL, np.arange(30), np.ones(10, bool), np.ones(10, bool))
    early, late = np.arange(10.0), np.array([0.0, 1, 2, 3, *[-1.0] * 6])
    values = [
        evaluate_slice(lambda rows, scores=scores: np.tile(scores, (len(rows), 1)), questions, part, CONFIG)
        for scores in (early, late)
    ]
    assert values[0].mean("NDCG@2") == values[1].mean("NDCG@2") == 1
    assert values[0].totals == values[1].totals and values[0].totals["coverage@1"] == 0.25
