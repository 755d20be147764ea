"""One model server on the tiny world for all tests that only ask it, and the stores both backends are tested with."""

import tempfile
from functools import partial

import pytest

from tests.serving.gateway import running

COPIES = 5  # of the model: one for each file of tests that changes its items; one worker may get all of them


def save_version(folder, version, seed=0):
    """A version of the tiny world's answer whose items can be encoded from `embedding_style`."""
    import tensorflow as tf  # here, so that tests of the stores alone do without

    from serving.export import replay, saved_model
    from tests.serving import tiny, world

    with tempfile.TemporaryDirectory() as towers:
        world.save_model(world.GoodModel(), towers)
        model = tf.saved_model.load(f"{towers}/Format-Serving")
    views = {name: tiny.vectors_of(running.NUM_ITEMS, seed) for name, seed in running.VIEW_SEEDS.items()}
    views["behaviour"][29] = 0  # nobody has taken it
    made = tiny.recommender(model, num_items=running.NUM_ITEMS, rows={"known": [(0, 0, 0.0)]}, seed=seed,
                            insert_capacity=8, views=views)  # fmt: skip
    target = str(folder / str(version))
    signatures = saved_model.save(made, target)
    replay.record(target, replay.in_process(signatures), [("recommend", tiny.request(history=(("i1",),)))])


@pytest.fixture(scope="session")
def served_folder(made_once):
    """A folder of versions with version 1 alone; nobody changes it."""
    return made_once("gateway-1", partial(save_version, version=1))


@pytest.fixture(scope="session")
def second_version(made_once):
    """Version 2, which answers otherwise, to be put beside the first."""
    return made_once("gateway-2", partial(save_version, version=2, seed=1)) / "2"


@pytest.fixture(scope="session")
def model_server(served_folder, tmp_path_factory):
    server = running.ModelServer(served_folder, tmp_path_factory.mktemp("server") / "log", copies=COPIES)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(request, model_server, tmp_path_factory):
    """A gateway with SQLite, for the tests of one file; one that says CHANGES_ITEMS has a copy of the model to
    itself."""
    name = model_server.copy() if getattr(request.module, "CHANGES_ITEMS", False) else "tiny"
    folder = tmp_path_factory.mktemp("gateway")
    store = folder / "store.sqlite"
    running.fill(store)
    started = running.Gateway(folder / "process", running.settings(model_server, store, name))
    yield started
    started.stop()
