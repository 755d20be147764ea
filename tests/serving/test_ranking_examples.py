"""Ranking examples know nothing of what comes after their query."""

import json

import numpy as np
import pytest
import tensorflow as tf

from components.config import DataConfig, TableConfig
from components.settings import to_json
from serving.people import People
from serving.ranking_examples import Popularity, queries_of, write_ranking_examples
from tests.serving import world
from trainer.ranking_config import RankingConfig

DATA = DataConfig(TableConfig(""), TableConfig(""))
CONFIG = RankingConfig(targets_per_user=3, negatives_from_list=4, negatives_from_catalogue=1)


def people(items, times_s):
    """One person who plays these items at these times."""
    size = len(items)
    return People(
        ["u"], np.array([0, size]), np.array(items, np.int32), np.array(["play"] * size, object), np.array(times_s, float),
        np.ones(size, bool), np.zeros(1, np.int64),
    )  # fmt: skip


def test_popularity_counts_what_came_before_alone():
    """Item 0 at 10 and 30, item 1 at 20, of 2 items: at 20 one success in all, so item 0 has twice the mean.

    Without a time all but the target count.
    """
    one = people([0, 1, 0], [10, 20, 30])
    popularity = Popularity(one, one, 2)
    both, nobody = np.array([0, 1]), np.zeros(2, bool)
    np.testing.assert_allclose(popularity.before(both, 20.0, nobody), [2, 0])
    np.testing.assert_allclose(popularity.before(both, 31.0, nobody), [4 / 3, 2 / 3])
    np.testing.assert_allclose(popularity.before(both, np.nan, np.array([True, False])), [2 / 3, 2 / 3])


def test_queries_are_the_latest_of_the_later_half():
    queries = queries_of(people(range(8), range(8)), "train", DATA, CONFIG, limit=100)
    assert queries.stops.tolist() == [5, 6, 7] == queries.targets.tolist()
    assert [later.tolist() for later in queries.later] == [[6, 7], [7], []]
    assert queries.labels[:, 0].tolist() == [1, 1, 1]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """split -> parsed examples of the world of two groups."""
    folder = tmp_path_factory.mktemp("ranking")
    vectors = world.content() / np.linalg.norm(world.content(), axis=1, keepdims=True)
    (folder / "index").mkdir()
    np.save(folder / "index" / "vectors.npy", vectors)
    (folder / "index" / "item_ids.json").write_text(json.dumps(world.ITEM_IDS))
    (folder / "index" / "report.json").write_text(json.dumps({"kind": "exact", "parameters": {}}))
    sequences, items = world.sequences(folder / "sequences"), world.items(folder / "items")
    model = world.save_model(world.GoodModel(), folder / "model")
    splits = ("train", "eval", "test")
    write_ranking_examples(
        f"{model.uri}/Format-Serving", str(folder / "index"), {split: f"{sequences.uri}/Split-{split}" for split in splits},
        f"{items.uri}/Split-train", {split: str(folder / split) for split in splits}, to_json(DATA), to_json(CONFIG), 5, 20,
    )  # fmt: skip
    read = lambda split: tf.data.TFRecordDataset(tf.io.gfile.glob(f"{folder / split}/*"), "GZIP").as_numpy_iterator()  # noqa: E731
    return {split: [tf.train.Example.FromString(record).features.feature for record in read(split)] for split in splits}


def test_each_query_has_one_target_and_others_not_taken(examples):
    """u00 trains on six items, of which the last three are targets; each stands beside others, with its label alone 1."""
    for split, rows in examples.items():
        by_query = {}
        for row in rows:
            by_query.setdefault(row["query_id"].bytes_list.value[0], []).append(row)
        assert by_query, split
        for query in by_query.values():
            labels = [row["label_play"].float_list.value[0] for row in query]
            assert labels[0] == 1 and sum(labels) == 1 and len(query) > 3
            vectors = {tuple(row["item_vector"].float_list.value) for row in query}
            assert len(vectors) == len(query), "no item twice"
    stops = sorted(row["query_id"].bytes_list.value[0] for row in examples["train"] if row["query_id"].bytes_list.value[0][:4] == b"u00\n")
    assert sorted(set(stops)) == [b"u00\n3", b"u00\n4", b"u00\n5"]


def test_the_history_ends_before_the_query(examples):
    """The query of stop n counts n plays (at most the five that the answer looks at), and the latest was ten seconds ago."""
    for row in examples["test"]:
        stop = int(row["query_id"].bytes_list.value[0].split(b"\n")[1])
        assert (
            row["history_counts"].float_list.value[sorted(DATA.event_rules).index("play")] == min(stop, 5)
            and row["recency_s"].float_list.value[0] == 10
        )
