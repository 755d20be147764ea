"""From sequences on disk to the arrays of index, evaluation and answer."""

import numpy as np
import pytest
import tensorflow as tf

from serving.offline import user_sequences as people_lib
from serving.online.item_metadata import read_facts
from tests.serving import tiny, world

IDS = [f"i{row}" for row in range(5)]


def write(folder, *rows):
    """rows: user, items, times or None, num_history."""
    full = [
        {
            "user_id": [user],
            "item_ids": items,
            "events": ["like"] * len(items),
            "timestamps_s": times or [],
            "positives": [1] * len(items),
            "num_history": [num_history],
        }
        for user, items, times, num_history in rows
    ]
    world.examples(folder, {"test": full})
    return people_lib.read_people(f"{folder}/Split-test", IDS)


def test_users_are_in_order_and_keep_their_own(tmp_path):
    people = write(tmp_path, ("b", ["i1", "i3", "i1"], [10, 20, 30], 2), ("a", ["i4"], None, 0))
    assert (
        people.user_ids == ["a", "b"] and people.splits.tolist() == [0, 1, 4] and people.items.tolist() == [4, 1, 3, 1]
    )
    assert people.user_rows.tolist() == [0, 1, 1, 1] and people.is_history.tolist() == [False, True, True, False]
    assert np.isnan(people.times_s[0]) and people.times_s[1:].tolist() == [10, 20, 30]
    assert people.matrix(np.ones(4, bool), 5).toarray().tolist() == [
        [0, 0, 0, 0, 1],
        [0, 1, 0, 1, 0],
    ]  # an item counts once


def test_an_item_that_is_not_indexed_is_named(tmp_path):
    with pytest.raises(ValueError, match="'i9' for one"):
        write(tmp_path, ("a", ["i1", "i9"], None, 0))


def test_users_are_encoded_as_they_stood_before_the_target(model, tmp_path):
    """The last two of three items, 25 s and 5 s before the target; without time, of no age; without history, nothing."""
    rows = ("b", ["i0", "i1", "i2", "i4"], [0, 10, 30, 35], 3), ("c", ["i3", "i4"], None, 1), ("a", ["i1"], [7], 0)
    people = write(tmp_path, *rows)
    vectors = tiny.vectors_of(5)
    encoded = people_lib.encode_users(model.signatures["user_tower"], vectors, people, people.num_history, 2)
    expected = [np.zeros(tiny.DIM), 2 * vectors[1] / 26 + 2 * vectors[2] / 6, 2 * vectors[3]]
    np.testing.assert_allclose(encoded, expected, atol=1e-6)


def test_the_latest_of_everyone(tmp_path):
    """A user of two splits speaks with the later one, which holds the earlier; ages count from the last event of all."""
    early = write(tmp_path / "1", ("a", ["i1"], [10], 0), ("b", ["i2", "i3"], [10, 50], 0))
    late = write(tmp_path / "2", ("a", ["i1", "i4"], [10, 40], 1))
    people = people_lib.latest([early, late])
    stored = people_lib.histories_of(people)
    kept = {
        user: stored.items[start:stop].tolist()
        for user, start, stop in zip(stored.user_ids, stored.splits, stored.splits[1:])
    }
    assert kept == {"a": [1, 4], "b": [2, 3]}
    assert dict(zip(people.items.tolist(), stored.age_s.tolist())) == {1: 40, 4: 10, 2: 40, 3: 0}
    assert stored.event_names == ["like"] and not stored.events.any()


def test_recent_popularity_halves_over_a_tenth_of_the_time():
    """100 s of data: an interaction of 10 s ago counts half; one without time counts in full."""
    popularity = people_lib.recent_popularity(np.array([0, 1, 2, 3]), np.array([0.0, 90.0, 100.0, np.nan]), 5)
    np.testing.assert_allclose(popularity, [0.5**10, 0.5, 1, 1, 0])
    assert people_lib.recent_popularity(np.array([1, 1]), np.full(2, np.nan), 3).tolist() == [0, 2, 0]


def test_item_facts_follow_the_index(tmp_path):
    world.items(tmp_path)
    facts = read_facts(f"{tmp_path}/Split-train", world.ITEM_IDS[::-1])
    assert facts.domains[::-1][:4].tolist() == ["", "film", "music", ""]
    assert facts.published_at_s[::-1][2] == 1002 and np.isnan(facts.published_at_s[::-1][1])


def test_items_may_be_older_than_1970(tmp_path):
    """A film of 1931 has a date as any other, and a category that it lacks is empty."""
    world.examples(
        tmp_path,
        {"train": [{"item_id": ["m"], "published_at": [-1_220_000_000], "mood": ["glum"]}, {"item_id": ["n"]}]},
    )
    facts = read_facts(f"{tmp_path}/Split-train", ["n", "m"], categorical=["mood"])
    assert np.isnan(facts.published_at_s[0]) and facts.published_at_s[1] == -1_220_000_000
    assert facts.categories.tolist() == [[""], ["glum"]] and facts.padded(1).categories.tolist() == [
        [""],
        ["glum"],
        [""],
    ]


def test_raw_items_say_what_is_absent(tmp_path):
    """The model's own signature decides the features; a list without values is NaN where others have some."""
    rows = [{"item_id": ["x"], "embedding_style": [1.0, 2.0, 3.0, 4.0]}, {"item_id": ["y"]}]
    world.examples(tmp_path, {"train": rows})
    loaded = tf.saved_model.load(f"{world.save_model(world.GoodModel(), tmp_path / 'model').uri}/Format-Serving")
    ((ids, inputs),) = people_lib.raw_items(loaded.signatures["encode_item"], f"{tmp_path}/Split-train")
    assert ids == [b"x", b"y"] and set(inputs) == {"item_id", "embedding_style"}
    np.testing.assert_array_equal(inputs["embedding_style"], [[1, 2, 3, 4], [np.nan] * 4])
    assert inputs["item_id"].dtype == tf.string
