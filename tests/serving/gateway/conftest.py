"""One model server on the tiny world for all tests that only ask it, and the stores both backends are tested with."""

import pytest

from tests.serving.gateway import running

COPIES = 5  # of the model: one for each file of tests that changes its items; one worker may get all of them


def save_version(folder, version, seed=0, insert_capacity=8):
    """A version of the tiny world's answer whose items can be encoded from `embedding_style`."""
    import tensorflow as tf  # here, so that tests of the stores alone do without

    from serving.export import replay, saved_model
    from tests.serving import tiny, world

    path = folder / "model"
    if not path.exists():
        world.save_model(world.GoodModel(), path)
    model = tf.saved_model.load(str(path / "Format-Serving"))
    made = tiny.recommender(model, num_items=running.NUM_ITEMS, rows={"known": [(0, 0, 0.0)]}, seed=seed,
                            insert_capacity=insert_capacity)  # fmt: skip
    target = folder / f".{version}.partial"
    signatures = saved_model.save(made, str(target))
    replay.record(str(target), replay.in_process(signatures), [("recommend", tiny.request(history=(("i1",),)))])
    served = folder / "served"
    served.mkdir(exist_ok=True)
    target.rename(served / str(version))
    return served


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory):
    return save_version(tmp_path_factory.mktemp("tiny"), 1)


@pytest.fixture(scope="session")
def model_server(served_folder, tmp_path_factory):
    server = running.ModelServer(served_folder, tmp_path_factory.mktemp("server") / "log", copies=COPIES)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    if running.REDIS is None:
        pytest.skip("redis-server is not installed")
    server = running.Redis(tmp_path_factory.mktemp("redis"))
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
