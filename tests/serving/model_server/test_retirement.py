"""What becomes of a version that is not served any more, and of one that is still being loaded at the end."""

from __future__ import annotations

import threading
import weakref

import numpy as np
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server import loader, model_versions
from serving.model_server.config import BatchingConfig, ModelSettings, ServerConfig
from serving.model_server.server import start
from tests.serving.model_server.life_cycle import POLL_S, answering_version, predict_request, reload_request, states


def graph_of(client) -> weakref.ref:
    """The graph of the served version's default signature: it has cycles, so that only the collector frees it."""
    with client.running.manager.serving(ModelSpec(name="m")) as model:
        return weakref.ref(model.signature("")._function.graph)


def test_a_retired_versions_memory_is_freed(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        graph = graph_of(client)
        assert graph() is not None
        publish(2)
        wait_until(lambda: graph() is None)


def test_a_thread_that_waits_for_a_batch_keeps_no_retired_version(serving, publish, wait_until):
    base = publish(1)
    with serving(ModelSettings("m", str(base)), batching=BatchingConfig(num_batch_threads=1)) as client:
        graph = graph_of(client)
        assert answering_version(client) == 1 and graph() is not None
        publish(2)
        wait_until(lambda: graph() is None)


def test_a_version_is_freed_after_its_last_request_also_where_nobody_polls(serving, publish, wait_until):
    first, second = publish(1), publish(1, "other")
    with serving(ModelSettings("m", str(first)), file_system_poll_wait_s=0) as client:
        graph = graph_of(client)
        request = predict_request("spin", steps=np.array(10**12, np.int64))
        running = client.predictions.Predict.future(request)
        wait_until(lambda: client.running.manager.status(ModelSpec(name="m"))[0].in_flight == 1)
        client.models.HandleReloadConfigRequest(reload_request(("other", second, {})))
        assert states(client) == {1: "UNLOADING"} and graph() is not None
        running.cancel()
        wait_until(lambda: graph() is None)


def test_a_version_that_is_being_loaded_holds_up_no_end(publish, monkeypatch):
    base, loading, go_on = publish(1), threading.Event(), threading.Event()

    def slow(name, number, path, batcher, options):
        if number == 2:
            loading.set()
            go_on.wait(60)
        return loader.load_model(name, number, path, batcher, options)

    monkeypatch.setattr(model_versions, "load_model", slow)
    options = {"file_system_poll_wait_s": POLL_S, "shutdown_grace_s": 0.2}
    running = start(ServerConfig((ModelSettings("m", str(base)),), grpc_port=0, **options))
    publish(2)
    assert loading.wait(20)
    stopping = threading.Thread(target=running.stop, daemon=True)
    stopping.start()
    stopping.join(10)
    has_ended = not stopping.is_alive()
    go_on.set()
    for thread in running.manager._threads:
        thread.join()
    assert has_ended
