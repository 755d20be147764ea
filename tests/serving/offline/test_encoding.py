"""Users are encoded as they stood at the moment of the question, and stored as they stand at the end of the data."""

import numpy as np
import tensorflow as tf

from components.datasets.interactions import window
from serving.offline.encoding import encode_items, encode_users, sampled_user_vectors
from serving.offline.item_vectors import ItemTower
from serving.online.histories import Histories, HistoryStore
from serving.online.vocabularies import Vocabularies
from tests.serving import tiny, world

UNTIMED = np.nan


def test_users_are_encoded_as_they_stood_before_the_target(model):
    """The last two of three items, 25 s and 5 s before the target; without time, of no age; else nothing."""
    users = tiny.interactions_of(([1], [7], 0), ([0, 1, 2, 4], [0, 10, 30, 35], 3), ([3, 4], [UNTIMED] * 2, 1))
    vectors = tiny.vectors_of(5)
    encoded = encode_users(model.signatures["user_tower"], vectors, users, users.num_history, 2)
    expected = [np.zeros(tiny.DIM), 2 * vectors[1] / 26 + 2 * vectors[2] / 6, 2 * vectors[3]]
    np.testing.assert_allclose(encoded, expected, atol=1e-6)
    assert encode_users(model.signatures["user_tower"], vectors, tiny.interactions_of(), np.zeros(0, int), 2).shape == (
        0,
        tiny.DIM,
    )


def test_sampled_users_are_spread_over_all_that_have_a_history(model):
    """Of users with 1, 0, 1, 1 and 1 interactions, two: the first and the last, after all that they did."""
    users = tiny.interactions_of(*(([item], [10], 0) if item != 1 else ([], [], 0) for item in range(5)))
    vectors = tiny.vectors_of(5)
    sampled = sampled_user_vectors(model.signatures["user_tower"], vectors, users, 9, count=2)
    np.testing.assert_allclose(sampled, 2 * vectors[[0, 4]], atol=1e-6)


def test_stored_ages_count_from_the_last_event_of_all():
    stored = Histories.of(tiny.interactions_of(([1, 4], [10, 40], 1), ([2, 3], [10, 50], 0), ([0], [UNTIMED], 0)), 5)
    assert stored.age_s[:4].tolist() == [40, 10, 40, 0] and np.isnan(stored.age_s[4])
    assert stored.event_names == ("like",) and not stored.events.any()
    assert np.isnan(Histories.of(tiny.interactions_of(([1], [UNTIMED], 0)), 5).age_s).all()


def test_items_are_encoded_in_the_order_of_the_ids(model, tmp_path):
    rows = [
        {"item_id": [name], "numeric": [float(place == axis) for axis in range(4)]} for place, name in enumerate("abc")
    ]
    world.examples(tmp_path, {"train": rows})
    encoded = encode_items(model.signatures["encode_item"], f"{tmp_path}/Split-train", ["c", "a"])
    np.testing.assert_array_equal(encoded, np.eye(4)[[2, 0]])


def test_few_large_items_are_encoded_at_once_and_many_small_ones(model, monkeypatch):
    handler = ItemTower("not read", "item_tower")
    numbers = tf.train.FloatList(value=[1, 0, 0, 0])
    records = []
    for name, padding in (("a", 0), ("b", 700), ("c", 0), ("d", 0), ("e", 0)):
        feature = {
            "item_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
            "numeric": tf.train.Feature(float_list=numbers),
            "medium": tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes(padding)])),
        }
        records.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    sizes, parse = [], tf.io.parse_example

    def counted(batch, features):
        sizes.append(len(batch))
        return parse(batch, features)

    monkeypatch.setattr(tf.io, "parse_example", counted)
    whole = list(handler.run_inference(records, model.signatures["item_tower"]))
    assert set(sizes) == {5}
    monkeypatch.setattr("serving.offline.item_vectors._BYTES_AT_ONCE", 1600)
    sizes.clear()
    assert [name for name, _ in handler.run_inference(records, model.signatures["item_tower"])] == [
        name for name, _ in whole
    ]
    assert sizes and max(sizes) == 2
    assert [name for name, _ in whole] == [name.encode() for name in "abcde"]


def test_what_is_stored_gives_the_window_of_the_offline_steps(model):
    """For users known from training the graph of the answer takes the same last interactions, with the same ages."""
    users = tiny.interactions_of(
        *(([*range(user, user + user)], [10.0 * step for step in range(user)], 0) for user in range(6))
    )
    recommender = tiny.recommender(model, num_items=12)
    now_s = int(np.nanmax(users.times_s))
    recommender._catalog.now_s = tf.constant(now_s, tf.int64)
    known = HistoryStore(Histories.of(users, 3), recommender._catalog, Vocabularies(recommender))
    nothing, no_ages = tf.zeros([len(users), 0], tf.string), tf.zeros([len(users), 0])
    for time_s, told in ((now_s, 0), (now_s, now_s), (now_s + 1000, now_s + 1000)):
        asked = tf.fill([len(users)], tf.constant(told, tf.int64))
        stored = known.history(tf.constant(users.user_ids), nothing, nothing, no_ages, asked)
        expected = window(users, np.arange(6), users.lengths, 3, np.full(6, float(time_s)))
        np.testing.assert_array_equal(stored.items, expected.items)
        np.testing.assert_array_equal(stored.age_s, expected.age_s)
        np.testing.assert_array_equal(stored.events, users.event_texts(expected.events).astype(bytes))
