"""The answer's rules, by property against numpy and by case."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.index import ExactIndex
from serving.online import candidates as candidates_lib
from serving.online.catalog import IndexedItems, LiveCatalog
from serving.online.cold_start import cold_start_scores
from tests.serving import tiny

NUM_ITEMS = 30
VECTORS = tiny.vectors_of(NUM_ITEMS)
DOMAINS = np.array([("music", "film", "")[row % 3] for row in range(NUM_ITEMS)])
STORED = {"known": [(0, 1), (3, 2)], "other": [(1, 1)]}  # position and weight of the event

some_ids = st.lists(st.sampled_from([*(f"i{row}" for row in range(NUM_ITEMS)), "", "nope", "i-1", "i30"]), max_size=8)
requests = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["known", "other", "new", ""]),
        "history": some_ids,
        "exclude": st.one_of(some_ids, st.just([f"i{row}" for row in range(NUM_ITEMS) if row % 7])),
        "domain": st.sampled_from(["", "", "music", "film", "opera"]),
        "k": st.integers(1, NUM_ITEMS + 5),
    }
)


def oracle(one, history_length=5):
    """Every rule in numpy: ids best first, their scores, and whether it is the list of new people."""
    position = {f"i{row}": row for row in range(NUM_ITEMS)}
    given = [(position[item], 1) for item in one["history"] if item in position]
    stored = STORED.get(one["user_id"], [])
    taste = (given or stored)[-history_length:]
    scores = (
        sum(weight * VECTORS[row] for row, weight in taste) @ VECTORS.T if taste else np.arange(NUM_ITEMS) / NUM_ITEMS
    )
    hidden = {row for row, _ in given + stored} | {position[item] for item in one["exclude"] if item in position}
    eligible = [row for row in range(NUM_ITEMS) if row not in hidden and one["domain"] in ("", DOMAINS[row])]
    best = sorted(eligible, key=lambda row: (-scores[row], row))[: one["k"]]
    return [f"i{row}" for row in best], [scores[row] for row in best], not taste


@settings(max_examples=150, deadline=None)
@given(batch=st.lists(requests, min_size=1, max_size=4))
def test_every_answer_is_the_brute_force_one(recommender, batch):
    """C33, C35: never seen, never excluded, distinct, of the domain, at most k, fewer only when fewer exist; exact and
    ScaNN alike.
    """
    columns = {name: [one[name] for one in batch] for name in ("user_id", "history", "exclude", "domain", "k")}
    output = recommender.recommend(**tiny.request(**columns))
    assert output["item_ids"].shape == output["scores"].shape == (len(batch), max(columns["k"]))
    assert np.isfinite(output["scores"]).all()
    for one, (ids, scores), fallback in zip(batch, tiny.answers(output), output["fallback"].numpy()):
        expected_ids, expected_scores, is_new = oracle(one)
        assert (ids, fallback) == (expected_ids, is_new)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_what_is_beyond_the_count_is_empty(recommender):
    output = recommender.recommend(**tiny.request(("known", "new"), ((), ()), exclude=((), ()), k=(2, 6)))
    assert output["item_ids"].numpy()[0, 2:].tolist() == [b""] * 4 and not output["scores"].numpy()[0, 2:].any()


def test_more_asked_for_than_there_is(recommender):
    """C33: k = 40 of 30 items: 30 distinct ones, OK, the promised 40 columns."""
    output = recommender.recommend(**tiny.request(k=(40,)))
    ids = tiny.answers(output)[0][0]
    assert len(set(ids)) == 30 and output["item_ids"].shape == (1, 40)


@pytest.mark.parametrize(("k", "reason"), [(0, "at least 1"), (-1, "at least 1"), (2**31 - 1, "at most 10000")])
def test_impossible_k(recommender, k, reason):
    """C33: INVALID_ARGUMENT naming k, also where another request of the batch is fine."""
    for call in (
        lambda: recommender.recommend(**tiny.request(("known", "new"), ((), ()), exclude=((), ()), k=(3, k))),
        lambda: recommender.recommend_user(tf.constant(["known"]), tf.constant([k], tf.int32)),
        lambda: recommender.similar(**tiny.similar_to("i1", k=k)),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"k must be {reason}"):
            call()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("history_events", [["like"]], "history_events must have the shape of history_ids"),
        ("history_age_s", [[1.0, 2.0, 3.0]], "history_age_s must have the shape of history_ids"),
        ("history_ids", [["i1", "i2"], ["i1", "i2"]], "history_ids must have a row for each user_id"),
        ("exclude_ids", [["i1"], ["i1"]], "exclude_ids must have a row for each user_id"),
        ("domain", ["", ""], "domain must have one value for each request"),
        ("k", [3, 3], "k must have one value for each request"),
    ],
)
def test_shapes_that_do_not_fit_are_named(recommender, name, value, reason):
    good = tiny.request(("known",), (("i1", "i2"),))
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        recommender.recommend(**good | {name: tf.constant(value)})


def test_excluded(recommender):
    """C35: 25 exclusions, three of them unknown: the rest of the catalogue; then everything excluded: an empty list."""
    excluded = [f"i{row}" for row in range(22)] + ["x", "y", ""]
    ids, _ = tiny.answers(recommender.recommend(**tiny.request(exclude=(excluded,), k=(10,))))[0]
    assert sorted(ids) == [f"i{row}" for row in range(22, 30)]
    output = recommender.recommend(**tiny.request(exclude=([f"i{row}" for row in range(30)],), k=(10,)))
    assert output["count"].numpy() == [0] and output["item_ids"].numpy()[0].tolist() == [b""] * 10


def test_new_people(recommender):
    """C36: the documented list, marked; two known people of different taste get different ones, by their id alone."""
    output = recommender.recommend_user(tf.constant(["new1", "new2", "", "known", "other"]), tf.fill([5], 10))
    lists = [ids for ids, _ in tiny.answers(output)]
    assert lists[0] == lists[1] == lists[2] == [f"i{row}" for row in range(29, 19, -1)]
    assert output["fallback"].numpy().tolist() == [True] * 3 + [False] * 2
    assert lists[3] != lists[4] and np.isfinite(output["scores"]).all()


class TableModel(tiny.TinyModel):
    """As the tiny one, and of "ann" the users table knows where she stands without any history."""

    @tf.function(input_signature=tiny.TinyModel.user_tower.input_signature)
    def user_tower(self, user_id, history_vectors, history_events, history_age_s):
        taste = tf.where((user_id == "ann")[:, None], [[0.0, 0.0, 1.0, 0.0]], 0.0)
        return {"vector": taste + tf.reduce_sum(history_vectors, 1)}


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_somebody_known_from_the_users_table_alone_is_not_new(tmp_path, kind):
    """The list of new people is for bob, of whom nothing is known; ann gets the items nearest to her own vector."""
    path = tiny.save_model(tmp_path, TableModel())
    recommender = tiny.recommender(tf.saved_model.load(path), kind)
    output = recommender.recommend_user(tf.constant(["ann", "bob"]), tf.fill([2], 5))
    (ann, scores), (bob, _) = tiny.answers(output)
    assert output["fallback"].numpy().tolist() == [False, True]
    assert ann == [f"i{row}" for row in np.argsort(-VECTORS[:, 2])[:5]]
    assert scores == pytest.approx(np.sort(VECTORS[:, 2])[::-1][:5], abs=1e-5)
    assert bob == [f"i{row}" for row in range(29, 24, -1)]


def test_histories_of_different_lengths(recommender):
    """C39: 0, 1 and 200 items in one request and singly; of the 200 the last five count, and all are hidden."""
    long = [f"i{row % 20}" for row in range(200)]
    histories = [[], ["i4"], long]
    batch = recommender.recommend(**tiny.request(("a", "b", "c"), histories, exclude=[[]] * 3, k=[6] * 3))
    for row, history in enumerate(histories):
        single = recommender.recommend(**tiny.request(("a",), [history], k=[6]))
        assert tiny.answers(batch)[row][0] == tiny.answers(single)[0][0]
        np.testing.assert_allclose(batch["scores"][row], single["scores"][0], atol=1e-5)
    shown, scores = tiny.answers(batch)[2]
    taste = VECTORS[[15, 16, 17, 18, 19]].sum(0)
    assert scores[0] == pytest.approx((VECTORS[20:] @ taste).max(), abs=1e-5)
    assert not set(shown) & set(long)


def test_events_and_age_reach_the_tower(recommender):
    """A like counts twice, an event of a second ago half; an age that is no number counts as unknown."""
    arguments = {"history": (("i4", "", "i5"),), "events": (("like", "", "play"),), "age_s": ((0.0, 0.0, 1.0),)}
    vector = recommender.encode_user(
        **{k: v for k, v in tiny.request(**arguments).items() if k in ("user_id", *HISTORY)}
    )["vector"]
    np.testing.assert_allclose(vector[0], 2 * VECTORS[4] + VECTORS[5] / 2, atol=1e-6)
    arguments["age_s"] = ((np.nan, 0.0, -np.inf),)
    output = recommender.recommend(**tiny.request(**arguments))
    assert np.isfinite(output["scores"]).all() and not output["fallback"].numpy()[0]


HISTORY = ("history_ids", "history_events", "history_age_s")


def test_what_is_later_than_the_question_is_no_taste_but_stays_hidden(model):
    """i0 taken 100 s before the last event, i3 50 s before and i5 with it; of what has no time nothing says that it is
    later."""
    rows = {"dated": [(0, 0, 100.0), (3, 0, 50.0), (5, 0, 0.0)], "undated": [(0, 0, np.nan), (3, 0, np.nan)]}
    made = tiny.recommender(model, rows=rows, views={"now_s": 1000}, history_length=2)
    for time_s, taste in ((899, []), (900, [0]), (950, [0, 3]), (999, [0, 3]), (1000, [3, 5]), (1100, [3, 5])):
        page = {"k": (NUM_ITEMS,), "time_s": [time_s]}
        (ids, scores), output = _asked(made, "dated", page)
        assert output["fallback"].numpy()[0] == (not taste)
        assert not {"i0", "i3", "i5"} & set(ids) and len(ids) == NUM_ITEMS - 3
        ages = {0: time_s - 900, 3: time_s - 950, 5: time_s - 1000}
        if taste:
            query = sum(VECTORS[row] / (1 + ages[row]) for row in taste)
            np.testing.assert_allclose(scores, np.sort(np.delete(VECTORS, [0, 3, 5], 0) @ query)[::-1], atol=1e-5)
        assert not _asked(made, "undated", page)[1]["fallback"].numpy()[0]


def _asked(made, user_id, page):
    output = made.recommend(**tiny.request((user_id,), **page))
    return tiny.answers(output)[0], output


def test_similar(recommender):
    """The nearest by cosine, without the item itself; an unknown item has none."""
    ids = [found for found, _ in tiny.answers(recommender.similar(**tiny.similar_to("i3", "nope", k=4)))]
    cosines = VECTORS @ VECTORS[3]
    assert ids[0] == [f"i{row}" for row in np.argsort(-cosines)[1:5]] and ids[1] == []
    (everything,) = tiny.answers(recommender.similar(**tiny.similar_to("i29", k=29)))
    assert len(set(everything[0])) == 29 and "i29" not in everything[0]


def test_no_requests_at_all(recommender):
    empty = {name: values[:0] for name, values in tiny.request().items()}
    assert recommender.recommend(**empty)["item_ids"].shape[0] == 0


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_how_many_items_others_ask_for_changes_nobodys_list(model, kind):
    """Lists of three beside one of all items: diversity looks at the candidates of each request alone."""
    made = tiny.recommender(model, kind, num_items=NUM_ITEMS, candidates=10)
    histories = [[f"i{row}"] for row in range(8)]
    others = {"diversity": [0.6] * 8, "cap": [0, 2] * 4}
    users = ("",) * 8

    def lists(k):
        return tiny.answers(made.recommend(**tiny.request(users, histories, k=k, **others)))

    alone, together = lists([3] * 8), lists([3] * 7 + [NUM_ITEMS])
    for (ids, scores), (ids_beside, scores_beside) in zip(alone[:7], together):
        assert ids == ids_beside
        np.testing.assert_allclose(scores, scores_beside, atol=1e-5)


def test_large_batches_in_steps_are_the_same(model, monkeypatch):
    users = tf.constant(["known", "new", "other"] * 5)
    whole, stepped = tiny.recommender(model), tiny.recommender(model)
    expected = whole.recommend_user(users, tf.fill([15], 4))
    monkeypatch.setattr(candidates_lib, "_SCORES_AT_ONCE", 4 * NUM_ITEMS)
    np.testing.assert_array_equal(expected["item_ids"], stepped.recommend_user(users, tf.fill([15], 4))["item_ids"])


@pytest.mark.parametrize("num_items", [1, 2, 15, 16, 99, 100])
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_small_catalogues(model, kind, num_items):
    """C32."""
    small = tiny.recommender(model, kind, num_items, rows={})
    ids, _ = tiny.answers(small.recommend(**tiny.request(history=(("i0",),), k=(10,))))[0]
    vectors = tiny.vectors_of(num_items)
    expected = [row for row in np.argsort(-(vectors @ vectors[0])) if row][:10]
    assert ids == [f"i{row}" for row in expected]


def test_cold_start_is_what_is_popular_then_what_is_new():
    """Popularity 9, 5, 5, 0; of the two equal ones the later comes first; the first has no date and needs none."""
    scores = cold_start_scores(np.array([9.0, 5, 5, 0]), np.array([np.nan, 10.0, 20.0, 30.0]))
    np.testing.assert_allclose(scores, [1, 1 / 3, 1 / 2, 1 / 4], rtol=1e-6)


def test_ids_that_cannot_be_a_line_are_refused():
    index = ExactIndex(np.ones((1, tiny.DIM), np.float32))
    with pytest.raises(ValueError, match="on one line"):
        LiveCatalog(index, IndexedItems(["a\nb"], [""], np.zeros(1)))
    with pytest.raises(ValueError, match="different catalogues"):
        LiveCatalog(index, IndexedItems(["a"], [], np.zeros(1)))
