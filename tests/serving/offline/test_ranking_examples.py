"""Ranking examples know nothing of what comes after their query."""

import json

import numpy as np
import pytest
import tensorflow as tf

from components.config import DataConfig, TableConfig
from components.datasets.interactions import Interactions
from components.datasets.records import records
from components.settings import to_json
from serving.offline.ranking_examples import Popularity, queries_by_split, queries_of, write_ranking_examples
from tests.serving import world
from trainer.config.ranking import RankingConfig

DATA = DataConfig(TableConfig(""), TableConfig(""), history_length=5)
CONFIG = RankingConfig(targets_per_user=3, negatives_from_list=4, negatives_from_catalogue=1)


def people(items, times_s, num_users=1):
    """So many users, who all play these items at these times."""
    size, of_all = len(items), num_users * len(items)
    return Interactions(
        user_ids=[f"u{user}" for user in range(num_users)],
        splits=np.arange(num_users + 1) * size,
        items=np.tile(np.array(items, np.int32), num_users),
        events=np.full(of_all, 2, np.int32),
        event_names=("play",),
        times_s=np.tile(np.array(times_s, np.float64), num_users),
        weights=np.ones(of_all, np.float32),
        positives=np.ones(of_all, bool),
        values=np.full(of_all, np.nan, np.float32),
        num_history=np.zeros(num_users, np.int64),
        ordered=np.ones(num_users, bool),
    )


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
        f"{model.uri}/Format-Serving", str(folder / "index"),
        {split: f"{sequences.uri}/Split-{split}" for split in splits}, f"{items.uri}/Split-train",
        {split: str(folder / split) for split in splits}, to_json(DATA), to_json(CONFIG), 20,
    )  # fmt: skip
    return {
        split: [tf.train.Example.FromString(record).features.feature for record in records(str(folder / split))]
        for split in splits
    }


def test_each_query_has_one_target_and_others_not_taken(examples):
    """u00 trains on six items, the last three are targets; each stands beside others, with its label alone 1."""
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
    assert stops_of(examples["train"], "u00", fitted=1) == [3, 4, 5]


def stops_of(rows, user, fitted):
    chosen = [
        row["query_id"].bytes_list.value[0].decode().split("\n")
        for row in rows
        if row["fitted"].int64_list.value[0] == fitted
    ]
    return sorted({int(stop) for name, stop in chosen if name == user})


def test_training_is_told_what_retrieval_was_fitted_on_and_some_people_are_held_out(examples):
    """Everyone has two interactions in eval, 6 and 7: in the file to train on, or in the one to stop by, not in
    both."""
    held_out = 0
    for user in {f"u{number:02}" for number in range(world.NUM_USERS - 2)}:
        trained, stopped = stops_of(examples["train"], user, fitted=0), stops_of(examples["eval"], user, fitted=0)
        assert sorted([trained, stopped]) == [[], [6, 7]]
        held_out += bool(stopped)
        assert stops_of(examples["test"], user, fitted=0) == [8, 9, 10]
    assert 0 < held_out < 11
    assert not any(row["fitted"].int64_list.value[0] for row in examples["eval"] + examples["test"])


def test_without_an_eval_split_people_are_held_out_of_train():
    everyone, nobody = people(range(10), range(10), num_users=40), people([], [], num_users=0)
    parts = queries_by_split({"train": everyone, "eval": nobody, "test": nobody}, DATA, CONFIG)
    trained, stopped_by = (
        {query.split("\n")[0] for part in parts[split] for query in part.ids} for split in ("train", "eval")
    )
    assert trained and stopped_by and not trained & stopped_by and trained | stopped_by == set(everyone.user_ids)


def test_the_history_ends_before_the_query(examples):
    """The query of stop n counts n plays (at most the five of the window), and the latest was ten seconds ago."""
    for row in examples["test"]:
        stop = int(row["query_id"].bytes_list.value[0].split(b"\n")[1])
        assert (
            row["history_counts"].float_list.value[sorted(DATA.event_rules).index("play")] == min(stop, 5)
            and row["recency_s"].float_list.value[0] == 10
        )
