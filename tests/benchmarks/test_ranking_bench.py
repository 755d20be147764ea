"""What the ranking benchmark computes by itself: the place of a target in its list, intervals over people, what reasons
name."""

import numpy as np
import pytest

from benchmarks.ranking.explanations import names_it
from benchmarks.ranking.rankers import Examples, ndcg_of_queries, over_people
from serving.offline.ranking_examples import _serialized
from tests.trainer.ranking.test_deepfm import DATA, rows
from trainer.keras import tf
from trainer.ranking.features import HISTORY_SLICE, POSITION, QUERY_ID, label_key

# Three queries: a target at place 2 of its list, one that the list does not hold, one that was skipped.
PLACES = np.array([2, 1, 3, 0, 1, 2, 1, 2])
EXAMPLES = Examples(
    {POSITION: PLACES},
    labels=np.array([[1], [0], [0], [1], [0], [0], [0], [0]], np.float32),
    people=np.array([0, 0, 0, 0, 0, 0, 1, 1]),
    queries=np.array([0, 0, 0, 1, 1, 1, 2, 2]),
)


def test_examples_are_read_as_the_pipeline_writes_them(tmp_path):
    """Whose query and which query each row is, from the name that it carries: person, line end, number."""
    names = ["a\n1"] * 3 + ["a\n2"] * 2 + ["b\n1"] * 4
    features, labels, _ = rows(len(names), seed=0)
    with tf.io.TFRecordWriter(str(tmp_path / "part.gz"), "GZIP") as writer:
        for row, name in enumerate(names):
            values = {feature: array[row] for feature, array in features.items()}
            values |= {label_key(kind): label for kind, label in zip(DATA.event_rules, labels[row])}
            writer.write(_serialized(values | {QUERY_ID: name.encode(), HISTORY_SLICE: b"long"}))
    examples = Examples.read(tmp_path, DATA)
    np.testing.assert_array_equal(examples.labels, labels)
    np.testing.assert_array_equal(examples.features[POSITION].ravel(), np.ravel(features[POSITION]))
    assert examples.people.tolist() == [0] * 5 + [1] * 4
    assert examples.queries.tolist() == [0] * 3 + [1] * 2 + [2] * 4


def test_ndcg_is_by_the_place_among_the_listed_and_nothing_beyond_the_list():
    """Place 2 gives 1 / log2(3), the first place 1; equal scores stay in the order of the list."""
    assert ndcg_of_queries(-PLACES.astype(float), EXAMPLES, 0) == pytest.approx([1 / np.log2(3), 0])
    assert ndcg_of_queries(np.array([9.0, 1, 1, 9, 1, 1, 1, 1]), EXAMPLES, 0) == pytest.approx([1, 0])
    assert ndcg_of_queries(np.zeros(8), EXAMPLES, 0) == pytest.approx([1 / np.log2(3), 0])


def test_an_interval_is_over_people_not_over_their_rows():
    """A thousand rows of one person are one observation: the interval has no width; of two people with 0 and 1 it spans
    all."""
    values = np.repeat([0.0, 1.0], 500)

    def mean(chosen):
        return float(values[chosen].mean())

    assert over_people(mean, np.zeros(1000, int)) == (0.5, (0.5, 0.5))
    assert over_people(mean, np.repeat([3, 8], 500)) == (0.5, (0.0, 1.0))


def test_reasons_name_the_trait_that_they_share_clearly():
    """Reasons on the same side by half a deviation share it; by their parts they name what they have in common with the
    item."""
    item = np.array([1.0, 0, 0, 0, 0.5])
    assert names_it(0, item, np.array([[0.6, 0, 0, 0, 0]]), np.ones(1)) == (1, 1)
    assert names_it(0, item, np.array([[0.4, 0, 0, 0, 0]]), np.ones(1)) == (0, 1)
    opposite = np.array([[-2.0, 0, 0, 0, 1.0]])
    assert names_it(0, item, opposite, np.ones(1)) == (0, 0)
