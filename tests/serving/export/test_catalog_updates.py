"""Updates outlive the server that was told: kept in the version, run by any server that loads it, sent to those
that run. C07, C35.
"""

import time

import numpy as np
import pytest
import tensorflow as tf

from serving.export import catalog_updates as changes_lib
from serving.export import replay
from serving.export.catalog_updates import AddedItem, CatalogUpdates
from serving.export.saved_model import DEFAULTS, load, save
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.server import start
from tests.serving import tiny

NUM_ITEMS = 12


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A served model's folder with version 1, recorded requests included."""
    folder = tmp_path_factory.mktemp("served")
    model = tf.saved_model.load(tiny.save_model(tmp_path_factory.mktemp("model")))
    recommender = tiny.recommender(model, num_items=NUM_ITEMS, rows={}, insert_capacity=3)
    signatures = save(recommender, str(folder / "1"))
    replay.record(
        str(folder / "1"), replay.in_process(signatures), [("recommend", tiny.request(history=(("i1",),), k=(30,)))]
    )
    return folder


def item(position, domain="music"):
    return AddedItem(tiny.vectors_of(NUM_ITEMS)[position], domain)


def ask(port):
    """Everything, by gRPC, for somebody who took i1."""
    from serving.export.validation import call_by_grpc

    answer = call_by_grpc("tiny", port)("recommend", tiny.request(history=(("i1",),), k=(30,)))
    return [name.decode() for name in answer["item_ids"][0, : answer["count"][0]]]


def test_changes_are_kept_and_later_ones_win():
    changes = CatalogUpdates()
    changes.add({"a": item(0), "b": item(1)})
    changes.withdraw(["a", "i5"])
    changes.add({"a": item(2, "film")})
    assert list(changes.withdrawn) == ["i5"]
    (withdraw, withdrawn), (add, added) = changes.requests()
    assert (withdraw, add) == ("withdraw_items", "add_items")
    assert dict(zip(added["item_id"].numpy(), added["domain"].numpy())) == {b"a": b"film", b"b": b"music"}
    assert withdrawn["item_id"].numpy().tolist() == [b"i5"]


def listed(signatures):
    """Everything, by the signatures of a loaded model, for somebody who took i1."""
    ids = signatures["recommend"](**tiny.request(history=(("i1",),), k=(30,)))["item_ids"].numpy()[0]
    return {name.decode() for name in ids.tolist()}


def call(signatures, name, inputs):
    whole = {key: tf.constant(value) for key, value in DEFAULTS.get(name, {}).items()} | inputs
    signatures[name](**whole)


def test_no_answer_between_the_calls_holds_what_is_withdrawn(pushed):
    """Neither of a model that is loaded, nor of one that has been told before."""
    path = str(pushed / "1")
    changes = CatalogUpdates()
    changes.add({"a": item(0)})
    told = load(path).signatures
    changes_lib.apply(told, changes)
    assert "a" in listed(told)
    changes.withdraw(["a", "i2"])
    changes.add({"b": item(4)})
    for signatures in (told, load(path).signatures):
        for number, (name, inputs) in enumerate(changes.requests()):
            call(signatures, name, inputs)
            assert not {"a", "i2"} & listed(signatures), (number, name)
        assert "b" in listed(signatures)


def test_what_is_withdrawn_goes_also_where_no_row_is_free_for_what_comes(pushed):
    changes = CatalogUpdates()
    changes.add({f"n{row}": item(0) for row in range(9)})
    changes.withdraw(["i2"])
    signatures = load(str(pushed / "1")).signatures
    with pytest.raises(tf.errors.InvalidArgumentError, match="no row is free"):
        for name, inputs in changes.requests():
            call(signatures, name, inputs)
    assert "i2" not in listed(signatures)


def test_what_was_added_and_withdrawn_can_come_back_as_it_was(pushed):
    path = str(pushed / "1")
    changes = CatalogUpdates()
    whole = AddedItem(item(3).vector, "music", "somebody", published_at_s=-86_400)
    changes.add({"a": whole, "b": item(4)})
    changes.withdraw(["a"])
    changes_lib.write(path, changes)
    changes_lib.write(path, changes_lib.read(path))
    found = changes_lib.read(path)
    assert (set(found.added), list(found.withdrawn)) == ({"a", "b"}, ["a"])
    np.testing.assert_array_equal(found.added["a"].vector, whole.vector)
    for name in ("domain", "creator", "published_at_s"):
        assert getattr(found.added["a"], name) == getattr(whole, name)
    assert found.added["b"].published_at_s == 0
    changes_lib.write(path, CatalogUpdates())


def test_a_replay_keeps_the_dates(pushed):
    changes = CatalogUpdates()
    changes.add({"a": AddedItem(item(0).vector, published_at_s=1000), "b": item(4)})
    changes_lib.write(str(pushed / "1"), changes)
    signatures = load(str(pushed / "1")).signatures
    changes_lib.apply(signatures, changes_lib.read(str(pushed / "1")))
    early, later = (
        signatures["recommend"](**tiny.request(k=(30,), time_s=[time_s]))["item_ids"].numpy()[0]
        for time_s in (999, 1000)
    )
    assert b"a" not in early and b"a" in later and b"b" in early
    changes_lib.write(str(pushed / "1"), CatalogUpdates())


def test_what_is_written_is_read_back_and_the_recorded_requests_stay(pushed):
    path = str(pushed / "1")
    before = [request.SerializeToString() for request, _ in replay.recorded(path)]
    changes = CatalogUpdates()
    changes.add({"ñ": item(3)})
    changes.withdraw(["i4"])
    changes_lib.write(path, changes)
    changes_lib.write(path, changes)
    found = changes_lib.read(path)
    np.testing.assert_array_equal(found.added["ñ"].vector, item(3).vector)
    assert (found.added["ñ"].domain, list(found.withdrawn)) == ("music", ["i4"])
    assert [request.SerializeToString() for request, _ in replay.recorded(path)][: len(before)] == before
    assert len(list(replay.recorded(path))) == len(before) + 2
    signatures = load(path).signatures
    changes_lib.apply(signatures, found)
    ids = signatures["recommend"](**tiny.request(history=(("i1",),), k=(30,)))["item_ids"].numpy()[0].tolist()
    assert "ñ".encode() in ids and b"i4" not in ids
    changes_lib.write(path, CatalogUpdates())
    assert [request.SerializeToString() for request, _ in replay.recorded(path)] == before


def test_a_running_server_is_told_and_one_that_starts_later_knows(pushed):
    """Items come and go in the next answer; the next server answers alike, from the version's warm-up requests
    alone.
    """
    config = ServerConfig(models=(ModelSettings("tiny", str(pushed)),), grpc_port=0, rest_port=None)
    everything = [f"i{row}" for row in range(NUM_ITEMS) if row != 1]
    changes = CatalogUpdates()
    changes.add({"new": item(1)})
    changes.withdraw(["i2"])
    with start(config) as server:
        assert sorted(ask(server.grpc_port)) == sorted(everything)
        changes_lib.send(f"127.0.0.1:{server.grpc_port}", "tiny", changes)
        told = ask(server.grpc_port)
        assert told[0] == "new", "the twin of what was taken"
        assert sorted(told) == sorted({*everything, "new"} - {"i2"})
        with pytest.raises(RuntimeError, match="no row is free"):
            too_many = CatalogUpdates()
            too_many.add({f"n{row}": item(0) for row in range(9)})
            changes_lib.send(f"127.0.0.1:{server.grpc_port}", "tiny", too_many)
        with pytest.raises(RuntimeError, match="NOT_FOUND"):
            changes_lib.send(f"127.0.0.1:{server.grpc_port}", "another", changes)
    changes_lib.write(str(pushed / "1"), changes)
    with start(config) as server:
        assert ask(server.grpc_port) == told
    changes_lib.write(str(pushed / "1"), CatalogUpdates())


def test_a_server_that_runs_sees_the_change_in_its_folder(pushed):
    """Nobody tells it: it looks, as it does for new versions, and what was taken back is taken back."""
    config = ServerConfig(
        models=(ModelSettings("tiny", str(pushed)),), grpc_port=0, rest_port=None, file_system_poll_wait_s=0.1
    )
    changes = CatalogUpdates()
    changes.withdraw(["i2"])
    with start(config) as server:
        assert "i2" in ask(server.grpc_port)
        changes_lib.write(str(pushed / "1"), changes)
        _wait_until(lambda: "i2" not in ask(server.grpc_port))
        changes.add({"i2": item(2)})
        changes_lib.write(str(pushed / "1"), changes)
        _wait_until(lambda: "i2" in ask(server.grpc_port))
    changes_lib.write(str(pushed / "1"), CatalogUpdates())


def _wait_until(is_so):
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_server_that_is_not_there_is_named(pushed):
    changes = CatalogUpdates()
    changes.withdraw(["i2"])
    with pytest.raises(RuntimeError, match="127.0.0.1:1, model tiny: UNAVAILABLE"):
        changes_lib.send("127.0.0.1:1", "tiny", changes)
