"""Items that come after the index was built, and items that go: in the next answer and through a SavedModel. C07, C10,
C33, C35.
"""

import numpy as np
import pytest
import tensorflow as tf

from serving.export.saved_model import load, save
from tests.serving import tiny

NUM_ITEMS, FREE = 30, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tf.saved_model.load(tiny.save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module", params=["exact", "scann"])
def shared(request, model):
    return tiny.recommender(model, request.param, NUM_ITEMS, insert_capacity=FREE)


@pytest.fixture()
def answer(shared):
    """A recommender whose catalogue is as it was built; what a test changes is undone after it."""
    with tiny.unchanged(shared):
        yield shared


def add(answer, ids, vectors, domain="", creator="", content=((),), published_at_s=(0,)):
    names = {"domain": tf.fill([len(ids)], domain), "creator": tf.fill([len(ids)], creator)}
    names["content"] = tf.constant(content, tf.float32)
    names["published_at_s"] = tf.constant(published_at_s, tf.int64)
    return answer.add_items(item_id=tf.constant(ids), vector=tf.constant(vectors, tf.float32), **names)[
        "position"
    ].numpy()


def page(answer, **request):
    return tiny.answers(answer.recommend(**tiny.request(**request)))[0][0]


def test_an_added_item_is_found_by_its_vector(answer):
    """The twin of the history's item comes first, in `recommend` and in `similar`, and can be a history itself."""
    twin = tiny.vectors_of(NUM_ITEMS)[7:8]
    assert add(answer, ["new"], twin) == [NUM_ITEMS]
    assert page(answer, history=(("i7",),))[0] == "new"
    similar = answer.similar(**tiny.similar_to("i7", "new", k=1))
    assert similar["item_ids"].numpy().ravel().tolist() == [b"new", b"i7"]
    assert page(answer, history=(("new",),))[0] == "i7"


def test_added_items_obey_the_rules(answer):
    vectors = tiny.vectors_of(NUM_ITEMS)[[7, 7, 7]] * [[0.999], [1], [0.998]]
    add(answer, ["a", "b"], vectors[:2], "music", "someone")
    add(answer, ["c"], vectors[2:], "a domain that nobody knows", "someone")
    history = (("i7",),)
    assert page(answer, history=history)[:3] == ["b", "a", "c"]
    assert page(answer, history=history, domain=["music"])[:2] == ["b", "a"]
    assert "c" not in page(answer, history=history, domain=["music"], k=(30,))
    assert page(answer, history=history, exclude=(("b",),))[0] == "a"
    assert page(answer, history=history, allow=[["c", "i3"]]) == ["c", "i3"]
    assert [item for item in page(answer, history=history, cap=[1], k=(20,)) if item in "abc"] == ["b"]


def test_added_items_obey_their_dates(answer):
    """Each is shown from its second on, one without a date always; that is in no list by age."""
    ids, dates_s = ["old", "new", "undated"], [-500, 1000, 0]
    add(answer, ids, tiny.vectors_of(3, seed=1), published_at_s=dates_s)
    for row in ("history", "nothing known"):
        history = (("i7",),) if row == "history" else ((),)
        lists = [set(page(answer, history=history, k=(100,), time_s=[time_s])) & set(ids) for time_s in (999, 1000)]
        assert lists == [{"old", "undated"}, set(ids)]
        of_an_age = page(answer, history=history, k=(100,), time_s=[1200], age=[300])
        assert of_an_age == ["new"]
    add(answer, ["old"], tiny.vectors_of(1, seed=1), published_at_s=[2000])
    assert "old" not in page(answer, k=(100,), time_s=[1999])


def test_what_the_operator_shows_before_its_day_is_shown(model):
    made = tiny.recommender(model, num_items=NUM_ITEMS, insert_capacity=1, show_unreleased=True)
    add(made, ["new"], tiny.vectors_of(1), published_at_s=[1000])
    assert "new" in page(made, k=(100,), time_s=[999])
    assert page(made, k=(100,), time_s=[1200], age=[300]) == ["new"]


@pytest.mark.parametrize("withdrawn_first", [True, False])
def test_an_item_of_the_index_that_is_added_again_keeps_its_dates(model, withdrawn_first):
    """Announced for second 1000: neither a mended title nor a withdrawal that is taken back releases it."""
    dates_s = np.full(NUM_ITEMS, 1000.0)
    columns = {"published_at_s": dates_s, "available_from_s": dates_s}
    made = tiny.recommender(model, num_items=NUM_ITEMS, insert_capacity=FREE, views=columns)
    if withdrawn_first:
        made.withdraw_items(item_id=tf.constant(["i3"]))
    add(made, ["i3"], tiny.vectors_of(1), published_at_s=[500])
    assert page(made, k=(100,), time_s=[999]) == []
    assert set(page(made, k=(100,), time_s=[1000])) == {f"i{row}" for row in range(NUM_ITEMS)}
    assert page(made, k=(100,), time_s=[1400], age=[300]) == []


def test_dates_that_do_not_fit_are_named(answer):
    with pytest.raises(tf.errors.InvalidArgumentError, match="published_at_s must have one value for each item"):
        add(answer, ["a", "b", "c"], tiny.vectors_of(3), published_at_s=[1, 2])
    assert not {"a", "b", "c"} & set(page(answer, k=(100,)))


def test_reads_share_their_memory_again_after_a_change(answer):
    """A scattered update lets each read copy the whole variable, for good, where nothing ends that."""
    catalog = answer._catalog
    add(answer, ["new"], tiny.vectors_of(NUM_ITEMS)[7:8])
    answer.withdraw_items(item_id=tf.constant(["i1"]))
    dates = (catalog.published_at_s, catalog.available_from_s)
    for variable in (catalog._vectors, catalog.creators, *dates, catalog._is_active):
        reads = [tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype) for _ in range(2)]
        places = [read._numpy_internal().__array_interface__["data"][0] for read in reads]
        assert places[0] == places[1]


def test_an_item_that_is_added_twice_has_one_place_and_its_last_vector(answer):
    vectors = tiny.vectors_of(NUM_ITEMS)
    first, second = add(answer, ["new"], vectors[7:8]), add(answer, ["new"], vectors[9:10])
    assert first == second
    assert "new" in page(answer, history=(("i9",),), k=(1,))
    assert page(answer, history=(("i7",),), k=(30,)).count("new") == 1


def test_a_withdrawn_item_is_gone_at_once_and_can_come_back(answer):
    """It is in no list, but a history may still hold it."""
    before = page(answer, history=(("i3",),), k=(1,))
    everything = {f"i{row}" for row in range(NUM_ITEMS)}
    known = answer.withdraw_items(tf.constant(["i3", "nobody"]))["known"].numpy()
    assert known.tolist() == [True, False]
    assert set(page(answer, history=(("i5",),), k=(100,))) == everything - {"i3", "i5"}
    assert set(page(answer, k=(100,))) == everything - {"i3"}, "people without a history"
    assert b"i3" not in answer.similar(**tiny.similar_to("i5", k=100))["item_ids"].numpy()
    assert page(answer, history=(("i3",),), k=(1,)) == before
    add(answer, ["i3"], tiny.vectors_of(NUM_ITEMS)[3:4])
    assert set(page(answer, k=(100,))) == everything


def test_filters_do_not_starve_the_list_while_something_is_left(answer):
    """All but three are withdrawn, whatever the index finds first."""
    answer.withdraw_items(tf.constant([f"i{row}" for row in range(NUM_ITEMS - 3)]))
    assert set(page(answer, history=(("i0",),), k=(10,))) == {f"i{row}" for row in range(NUM_ITEMS - 3, NUM_ITEMS)}


@pytest.mark.parametrize(
    "ids, vector, message",
    [
        (["a", "a"], 1.0, "twice"),
        ([""], 1.0, "empty"),
        (["a"], np.nan, "finite"),
        ([f"n{row}" for row in range(FREE + 1)], 1.0, "no row is free"),
    ],
)
def test_what_cannot_be_added_changes_nothing(answer, ids, vector, message):
    before = page(answer, history=(("i5",),), k=(100,))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        add(answer, ids, np.full([len(ids), tiny.DIM], vector))
    assert page(answer, history=(("i5",),), k=(100,)) == before


@pytest.mark.parametrize("short", ["vector", "domain", "creator"])
def test_columns_that_do_not_fit_change_nothing(answer, short):
    """Half a change would give the next item the row of one that has its id already."""
    before, vectors = page(answer, history=(("i5",),), k=(100,)), tiny.vectors_of(NUM_ITEMS)[:2]
    call = {"item_id": tf.constant(["a", "b"]), "vector": tf.constant(vectors, tf.float32)}
    call |= {"domain": tf.constant(["", ""]), "creator": tf.constant(["", ""])}
    others = {"content": tf.zeros([1, 0]), "published_at_s": tf.constant([0], tf.int64)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value for each item"):
        answer.add_items(**{**call, short: call[short][:1]}, **others)
    assert page(answer, history=(("i5",),), k=(100,)) == before
    assert add(answer, ["a"], vectors[:1]) == [NUM_ITEMS] and add(answer, ["b"], vectors[1:]) == [NUM_ITEMS + 1]


def test_items_that_were_withdrawn_before_the_build_are_never_listed(model):
    assert "i4" not in page(tiny.recommender(model, withdrawn=["i4", "of another catalogue"]), k=(100,))


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_saved_model_can_be_changed_like_the_one_it_came_from(model, kind, tmp_path):
    """What was added before saving is there after loading, and the loaded one takes more."""
    made = tiny.recommender(model, kind, NUM_ITEMS, insert_capacity=FREE)
    vectors = tiny.vectors_of(NUM_ITEMS)
    add(made, ["before"], vectors[7:8])
    save(made, str(tmp_path))
    signatures = load(str(tmp_path)).signatures
    new = {
        "item_id": ["after"],
        "vector": vectors[7:8],
        "domain": [""],
        "creator": [""],
        "content": np.zeros((1, 0), np.float32),
        "published_at_s": np.array([1000]),
    }
    assert signatures["add_items"](**{name: tf.constant(value) for name, value in new.items()})["position"].numpy() == [
        NUM_ITEMS + 1
    ]
    signatures["withdraw_items"](item_id=tf.constant(["i7"]))
    ids = signatures["recommend"](**tiny.request(history=(("i8",),), k=(100,)))["item_ids"].numpy()[0]
    assert {b"before", b"after"} <= set(ids.tolist()) and b"i7" not in ids
    early = signatures["recommend"](**tiny.request(history=(("i8",),), k=(100,), time_s=[999]))["item_ids"].numpy()[0]
    assert b"before" in early and b"after" not in early


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_any_order_of_changes_leaves_what_a_set_would_hold(model, kind):
    """Add and withdraw 150 times at random: now and then the list of all is the set's content."""
    answer = tiny.recommender(model, kind, NUM_ITEMS, rows={}, insert_capacity=6)
    vectors = tiny.vectors_of(NUM_ITEMS + 6, seed=1)
    expected, known = {f"i{row}" for row in range(NUM_ITEMS)}, {f"i{row}" for row in range(NUM_ITEMS)}
    random = np.random.default_rng(0)
    for step in range(150):
        number = int(random.integers(NUM_ITEMS + 6))
        item = f"i{number}"
        if random.random() < 0.5:
            add(answer, [item], vectors[number : number + 1])
            expected.add(item)
            known.add(item)
        else:
            assert answer.withdraw_items(tf.constant([item]))["known"].numpy() == [item in known]
            expected.discard(item)
        if step % 10 == 9:
            assert set(page(answer, k=(100,))) == expected
