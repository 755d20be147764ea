"""Ranking examples know nothing of what comes after their query."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.config import DataConfig, TableConfig
from components.datasets.exposures import ShownLists
from components.datasets.interactions import Interactions, read_interactions
from components.datasets.records import records
from components.settings import to_json
from serving.offline.ranking_candidates import Sampling, candidates_of
from serving.offline.ranking_examples import Popularity, queries_by_split, queries_of, write_ranking_examples
from tests.serving import world
from trainer.config.ranking import RankingConfig
from trainer.ranking.features import read_examples

DATA = DataConfig(TableConfig(""), TableConfig(""), history_length=5)
CONFIG = RankingConfig(targets_per_user=3, negatives_from_list=4, negatives_from_catalogue=1)
ALWAYS = np.full(20, -np.inf)  # when each item became a candidate


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


def test_a_skip_is_not_taken_out_of_the_popularity_that_never_counted_it():
    """One of two people without times likes item 0, the other skips it: for both queries one like, less their own."""
    both = people([5, 0], [np.nan, np.nan], num_users=2)
    train = replace(both, positives=np.array([True, True, True, False]))
    queries = queries_of(train, "train", DATA, CONFIG, ALWAYS, limit=100)
    assert queries.targets.tolist() == [0, 0] and queries.positives.tolist() == [True, False]
    popularity = Popularity(train, train, 9)
    counted = queries.positives & queries.fitted
    first, second = (popularity.before(np.array([0]), np.nan, counted[row : row + 1]) for row in range(2))
    assert first == 0 and second > 0


def test_queries_are_the_latest_of_the_later_half():
    queries = queries_of(people(range(8), range(8)), "train", DATA, CONFIG, ALWAYS, limit=100)
    assert queries.stops.tolist() == [5, 6, 7] == queries.targets.tolist()
    assert [later.tolist() for later in queries.later] == [[6, 7], [7], []]
    assert queries.labels[:, 0].tolist() == [1, 1, 1]


def test_what_no_answer_could_have_held_is_no_query():
    """Item 5 once more at 30, and item 7 which comes at 41 only, are none; an item is there at the second it comes."""
    from_s = ALWAYS.copy()
    from_s[[6, 7]] = 20, 41
    queries = queries_of(people([5, 6, 5, 7], [10, 20, 30, 40]), "test", DATA, CONFIG, from_s, limit=100)
    assert queries.stops.tolist() == [1] and queries.targets.tolist() == [6]


@pytest.mark.parametrize("target", [0, 30])
def test_a_target_stands_beside_others_of_the_list_or_beyond_it_as_it_does_itself(target):
    """Of 40 items the list holds the first ten; the last of the negatives is of anywhere. What is taken later may be
    one."""
    queries = queries_of(people([39, target, 1, 31], [10, 20, 30, 40]), "test", DATA, CONFIG, np.zeros(40), limit=100)
    sampling, generator = Sampling(CONFIG, 10, None), np.random.default_rng(0)
    drawn = [candidates_of(queries, 0, -np.arange(40.0), sampling, generator) for _ in range(200)]
    for items, places in drawn:
        assert items[0] == target and len(set(items.tolist())) == len(items) == 6
        assert ((places[:5] > 0) == (target < 10)).all() and (places == np.where(items < 10, items + 1, 0)).all()
    others = {item for items, _ in drawn for item in items[1:5].tolist()}
    assert others == (set(range(10)) if target < 10 else set(range(10, 39))) - {target}
    assert {places[5] > 0 for _, places in drawn} == {True, False}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """split -> parsed examples of the world of two groups."""
    return parsed(written(tmp_path_factory.mktemp("ranking"), DATA))


def parsed(folder):
    return {
        split: [tf.train.Example.FromString(record).features.feature for record in records(str(folder / split))]
        for split in ("train", "eval", "test")
    }


def written(folder, data):
    """The folder in which the examples of the world were written."""
    vectors = world.content() / np.linalg.norm(world.content(), axis=1, keepdims=True)
    (folder / "index").mkdir(parents=True)
    np.save(folder / "index" / "vectors.npy", vectors)
    (folder / "index" / "item_ids.json").write_text(json.dumps(world.ITEM_IDS))
    (folder / "index" / "report.json").write_text(json.dumps({"kind": "exact", "parameters": {}}))
    sequences, items = world.sequences(folder / "sequences"), world.items(folder / "items")
    model = world.save_model(world.GoodModel(), folder / "model")
    splits = ("train", "eval", "test")
    write_ranking_examples(
        f"{model.uri}/Format-Serving", str(folder / "index"),
        {split: f"{sequences.uri}/Split-{split}" for split in splits}, f"{items.uri}/Split-train",
        {split: str(folder / split) for split in splits}, to_json(data), to_json(CONFIG), 20,
    )  # fmt: skip
    return folder


def shown_to_all(path, lists):
    """Exposures of the world. lists: (user, time, item ids in order)."""
    rows = [
        {"request_id": f"{user}-{time_s}", "user_id": user, "timestamp": time_s, "item_id": item, "position": place}
        for user, time_s, items in lists
        for place, item in enumerate(items, 1)
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return replace(DATA, exposures=str(path))


def queries_with(rows, user):
    """Query name -> (label of play, position) of its examples."""
    found = {}
    for row in rows:
        name = row["query_id"].bytes_list.value[0].decode()
        if name.startswith(f"{user}\n"):
            label, place = row["label_play"].float_list.value[0], row["position"].int64_list.value[0]
            found.setdefault(name, []).append((label, place))
    return found


def test_lists_without_anybody_in_them_change_no_byte(examples, tmp_path):
    again = written(tmp_path, shown_to_all(tmp_path / "none.jsonl.gz", []))
    for split, rows in parsed(again).items():
        assert list(map(as_bytes, rows)) == list(map(as_bytes, examples[split]))


def as_bytes(row):
    """Feature -> its bytes, in which an unknown number is equal to itself."""
    return {name: feature.SerializeToString() for name, feature in row.items()}


def test_what_was_shown_and_not_taken_stands_beside_what_was_with_its_position(examples, tmp_path):
    """u00 takes the target of each test query out of a list of four, in which it stood third."""
    sequences = read_interactions(str(tmp_path_of(tmp_path) / "Split-test"), world.ITEM_IDS)
    user = sequences.user_ids.index("u00")
    first, last = sequences.splits[user : user + 2]
    own = sequences.items[first:last]
    others = [item for row, item in enumerate(world.ITEM_IDS) if row not in own][:3]
    lists = [
        ("u00", sequences.times_s[at] - 1, [*others[:2], world.ITEM_IDS[sequences.items[at]], others[2]])
        for at in range(first + sequences.num_history[user], last)
    ]
    rows = parsed(written(tmp_path / "run", shown_to_all(tmp_path / "shown.jsonl.gz", lists)))["test"]
    queries = queries_with(rows, "u00")
    assert len(queries) == len(lists)
    assert all(query == [(1, 3), (0, 1), (0, 2), (0, 4)] for query in queries.values()), queries
    elsewhere = [place for query in queries_with(rows, "u01").values() for _, place in query]
    assert elsewhere and set(elsewhere) == {0}, "where nothing was shown, the position is unknown"


def tmp_path_of(folder):
    """The sequences of the world, written once more to look at."""
    (folder / "look").mkdir()
    return Path(world.sequences(folder / "look" / "sequences").uri)


def test_a_shown_item_that_was_taken_earlier_or_later_is_no_negative():
    one = people([5, 6, 7], [10, 20, 30])
    queries = queries_of(one, "test", DATA, CONFIG, ALWAYS, limit=100)
    row = queries.stops.tolist().index(1)  # item 6, after 5, before 7
    items, positions = np.array([5, 7, 1, 6, 2], np.int32), np.array([1, 2, 23, 24, 25])
    lists = ShownLists({"u0": (0, 1)}, np.array([15.0]), np.array([0, 5]), items, positions)
    sampling = Sampling(CONFIG, 8, lists)
    items, places = candidates_of(queries, row, np.zeros(9, np.float32), sampling, np.random.default_rng(0))
    assert dict(zip(items.tolist(), places.tolist())) == {6: 24, 1: 23, 2: 25}
    assert items[0] == 6


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
    parts = queries_by_split({"train": everyone, "eval": nobody, "test": nobody}, DATA, CONFIG, ALWAYS)
    trained, stopped_by = (
        {query.split("\n")[0] for part in parts[split] for query in part.ids} for split in ("train", "eval")
    )
    assert trained and stopped_by and not trained & stopped_by and trained | stopped_by == set(everyone.user_ids)


def test_with_one_person_in_the_eval_split_there_are_people_to_stop_by():
    """Whether or not that one is held out."""
    everyone, nobody = people(range(10), range(10), num_users=40), people([], [], num_users=0)
    for user in range(8):
        splits = {"train": everyone, "eval": everyone.select(np.array([user])), "test": nobody}
        parts = queries_by_split(splits, DATA, CONFIG, ALWAYS)
        trained, stopped_by = (
            {query.split("\n")[0] for part in parts[split] for query in part.ids} for split in ("train", "eval")
        )
        assert trained and stopped_by and not trained & stopped_by


def test_a_split_without_examples_is_named(tmp_path):
    path = str(tmp_path / "Split-eval.gz")
    tf.io.TFRecordWriter(path, "GZIP").close()
    with pytest.raises(ValueError, match="no ranking examples in .*Split-eval.gz.*ranking.held_out_share"):
        read_examples([path], DATA)


def test_the_history_ends_before_the_query(examples):
    """The query of stop n counts n plays (at most the five of the window), and the latest was ten seconds ago."""
    for row in examples["test"]:
        stop = int(row["query_id"].bytes_list.value[0].split(b"\n")[1])
        assert (
            row["history_counts"].float_list.value[sorted(DATA.event_rules).index("play")] == min(stop, 5)
            and row["recency_s"].float_list.value[0] == 10
        )
