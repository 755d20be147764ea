"""`similar` by content, by behaviour and by both, beside numpy over all items; and what is added later."""

import numpy as np
import pytest
import tensorflow as tf

from serving.export import saved_model
from serving.export.validation import call_by_grpc
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.server import start
from tests.serving import tiny

NUM_ITEMS, FREE = 30, 3
COLD = (4, 11, 29)  # nobody has taken them
IDS = [f"i{row}" for row in range(NUM_ITEMS)]
WARM = np.array([row not in COLD for row in range(NUM_ITEMS)])
VIEWS = {
    "content": tiny.vectors_of(NUM_ITEMS, seed=8),
    "behaviour": tiny.vectors_of(NUM_ITEMS, seed=9) * WARM[:, None],
}
VECTORS = {"both": tiny.vectors_of(NUM_ITEMS), **VIEWS, "content": tiny.from_mean(VIEWS["content"])}
DOMAINS = np.array([("music", "film", "")[row % 3] for row in range(NUM_ITEMS)])


@pytest.fixture(scope="module", params=["exact", "scann"])
def shared(request, model):
    return tiny.recommender(model, request.param, NUM_ITEMS, insert_capacity=FREE, views=VIEWS)


@pytest.fixture()
def answer(shared):
    """A recommender whose catalogue is as it was built; what a test changes is undone after it."""
    with tiny.unchanged(shared):
        yield shared


def expected(row, by, k, hidden=(), domain=""):
    """What orders the list of an item, and its ids and scores."""
    told = "both" if by == "" or (by == "behaviour" and row in COLD) else by
    scores = VECTORS[told] @ VECTORS[told][row]
    may = [
        other
        for other in np.argsort(-scores, kind="stable")
        if other not in (row, *hidden) and domain in ("", DOMAINS[other]) and (told != "behaviour" or WARM[other])
    ]
    return told, [IDS[other] for other in may[:k]], scores[may[:k]]


def check(answer, rows, by, k, hidden=(), domain=""):
    asked = tiny.similar_to(*(IDS[row] for row in rows), k=k, by=by, exclude=[[IDS[other] for other in hidden]],
                            domain=[domain] * len(rows))  # fmt: skip
    output = answer.similar(**asked)
    for row, one, told, (ids, scores) in zip(rows, by, output["by"].numpy(), tiny.answers(output)):
        oracle = expected(row, one, k, hidden, domain)
        assert (told.decode(), ids) == oracle[:2]
        np.testing.assert_allclose(scores, oracle[2], atol=1e-6)


def test_each_request_of_a_batch_is_ordered_by_what_it_names(answer):
    """200 times under random rules, cold items among those asked for."""
    random = np.random.default_rng(3)
    for _ in range(50):
        rows = random.integers(NUM_ITEMS, size=4)
        by = random.choice(["", "both", "content", "behaviour"], 4)
        hidden = random.integers(NUM_ITEMS, size=random.integers(1, 5))
        check(answer, rows, by, int(random.integers(1, NUM_ITEMS)), hidden, random.choice(["", "music"]))


def test_a_cold_item_has_no_list_by_behaviour_and_is_in_none(answer):
    check(answer, COLD, ["behaviour"] * len(COLD), NUM_ITEMS)
    output = answer.similar(**tiny.similar_to("i3", k=NUM_ITEMS, by="behaviour"))
    assert output["count"].numpy() == [NUM_ITEMS - 1 - len(COLD)] and output["by"].numpy() == [b"behaviour"]


def test_one_word_holds_for_a_whole_batch(answer):
    each, all_alike = (answer.similar(**tiny.similar_to("i3", "i5", k=9, by=by)) for by in (["content"] * 2, "content"))
    for name in each:
        np.testing.assert_array_equal(each[name], all_alike[name])


def test_an_item_that_nobody_knows_has_no_list(answer):
    output = answer.similar(**tiny.similar_to("nope", k=3, by="content"))
    assert output["count"].numpy() == [0] and not output["item_ids"].numpy().any()


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (["sound"], "by must be one of both, content, behaviour"),
        (["content", "Content"], "by must be one of both"),
        (["content"] * 3, "by must have one value for each request, or one for all"),
    ],
)
def test_what_it_cannot_be_ordered_by_is_said(answer, by, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        answer.similar(**tiny.similar_to("i1", "i2", k=3, by=by))


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_by_both_is_what_it_was_and_lists_for_people_read_nothing_more(model, kind):
    """To the last bit, beside a model of a catalogue that knows item vectors alone."""
    with_views, without = (tiny.recommender(model, kind, NUM_ITEMS, views=views) for views in (VIEWS, None))
    for by in ("", "both"):
        asked = tiny.similar_to(*IDS[:6], k=12, by=by)
        one, other = with_views.similar(**asked), without.similar(**asked)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    recommend = with_views.signatures()["recommend"]
    read = {id(handle) for handle in recommend.captured_inputs}
    catalog = with_views._catalog
    assert id(catalog._vectors.handle) in read
    assert not read & {id(catalog._content.handle), id(catalog._behaviour.handle)}


def test_without_views_every_list_is_by_both(model):
    plain = tiny.recommender(model, num_items=NUM_ITEMS, insert_capacity=1)
    output = plain.similar(**tiny.similar_to("i1", "i2", k=5, by=["content", "behaviour"]))
    assert output["by"].numpy().tolist() == [b"both"] * 2
    assert [ids for ids, _ in tiny.answers(output)] == [expected(row, "both", 5)[1] for row in (1, 2)]


def add(answer, content, ids=("new",)):
    nothing = tf.fill([len(ids)], "")
    vectors = {"vector": tf.constant(tiny.vectors_of(len(ids), seed=5)), "content": tf.constant(content, tf.float32)}
    others = {"domain": nothing, "creator": nothing, "published_at_s": tf.constant([0], tf.int64)}
    return answer.add_items(item_id=tf.constant(ids), **others, **vectors)


def by_content(answer, item, k=1, by="content"):
    output = answer.similar(**tiny.similar_to(item, k=k, by=by))
    return output["by"].numpy()[0].decode(), tiny.answers(output)[0][0]


def test_an_added_item_is_found_by_its_content_and_by_nobodys_behaviour(answer):
    add(answer, VIEWS["content"][[7]])
    assert by_content(answer, "i7") == ("content", ["new"]) and by_content(answer, "new") == ("content", ["i7"])
    assert by_content(answer, "new", by="behaviour")[0] == "both"
    assert "new" not in by_content(answer, "i7", 100, "behaviour")[1]
    add(answer, VIEWS["content"][[9]])
    assert by_content(answer, "new") == ("content", ["i9"]), "its last content counts"


def test_an_added_item_of_unknown_content_is_in_no_list_by_content(answer):
    add(answer, np.zeros((1, 0)), ("a", "b"))
    assert by_content(answer, "a")[0] == "both"
    assert not {"a", "b"} & set(by_content(answer, "i7", 100)[1])
    assert {"a", "b"} <= set(by_content(answer, "i7", 100, "both")[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((1, tiny.DIM), np.nan), "content must be finite"),
        (np.ones((1, 3)), "content must have a row of 4 for each item, or no column"),
        (np.ones((1, tiny.DIM)), "content must have a row of 4"),
    ],
)
def test_content_that_does_not_fit_is_named(answer, content, message):
    ids = ("a", "b") if content.shape[1] == tiny.DIM and np.isfinite(content).all() else ("a",)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        add(answer, content, ids)
    assert not set(ids) & set(by_content(answer, "i7", 100)[1])


def test_a_client_that_knows_neither_input_is_served_as_before(model, tmp_path):
    """Over gRPC: the signatures say what stands in."""
    made = tiny.recommender(model, num_items=NUM_ITEMS, insert_capacity=FREE, views=VIEWS)
    saved_model.save(made, str(tmp_path / "1"))
    asked = tiny.similar_to("i1", "i2", k=5)
    nothing = tf.constant(["", ""])
    vectors = tf.constant(VECTORS["both"][[1, 2]])
    with start(ServerConfig(models=(ModelSettings("m", str(tmp_path)),), grpc_port=0, rest_port=None)) as server:
        call = call_by_grpc("m", server.grpc_port)
        old = call("similar", {name: value for name, value in asked.items() if name != "by"})
        new = call("similar", asked | {"by": tf.constant(["content", "both"])})
        added = {"item_id": tf.constant(["a", "b"]), "vector": vectors, "domain": nothing, "creator": nothing}
        assert call("add_items", added)["position"].tolist() == [NUM_ITEMS, NUM_ITEMS + 1]
        later = call("similar", {name: value for name, value in asked.items() if name != "by"})
    assert old["by"].tolist() == [b"both"] * 2 and new["by"].tolist() == [b"content", b"both"]
    for row, by in ((0, "content"), (1, "both")):
        assert new["item_ids"][row].tolist() == [item.encode() for item in expected(row + 1, by, 5)[1]]
    assert old["item_ids"][1].tolist() == new["item_ids"][1].tolist()
    assert later["item_ids"][:, 0].tolist() == [b"a", b"b"]
