"""Calls that change a model: one at a time over the wire, and again from the recorded requests of its folder."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from grpc import StatusCode

from serving.model_server import inference
from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import BatchingConfig, ModelSettings
from serving.model_server.errors import ServingError
from serving.model_server.loader import load_model
from tests.serving.model_server.life_cycle import (
    answering_version,
    predict_request,
    reload_request,
    write_warm_up,
)

STEPS = np.array(2_000, np.int64)  # some milliseconds of counting


def offset(client) -> float:
    """What `shift` has made of the small model's 1000 times its version."""
    return client.predict({"x": np.array([0], np.float32)}, model="m").outputs["y"].float_val[0]


def shift(by: float):
    """A request that adds to the offset."""
    return predict_request("shift", by=np.array([by], np.float32))


def test_each_of_many_callers_changes_what_the_one_before_left(serving, publish):
    with serving(ModelSettings("m", str(publish(1))), grpc_max_threads=8) as client, ThreadPoolExecutor(8) as pool:

        def count(_: int) -> int:
            return client.predict({"steps": STEPS}, model="m", signature="count").outputs["count"].int64_val[0]

        assert sorted(pool.map(count, range(160))) == list(range(1, 161))


def test_a_change_whose_caller_has_gone_while_it_waited_is_not_made(publish, wait_until):
    model, token = load_model("m", 1, str(publish(1) / "1")), CancellationToken()
    count = model.signature("count")
    with ThreadPoolExecutor(1) as pool:
        with count._turn:
            waits = pool.submit(count, {"steps": STEPS}, token)
            wait_until(waits.running)
            token.cancel()
        with pytest.raises(ServingError) as cancelled:
            waits.result(timeout=20)
    assert cancelled.value.code == StatusCode.CANCELLED and model.root.counted.numpy() == 0


def test_changes_that_could_not_be_replayed_are_tried_again(serving, publish, monkeypatch, wait_until, caplog):
    base, tries, predict = publish(1), [], inference.predict

    def flaky(model, request, token):
        if request.model_spec.signature_name == "shift":
            tries.append(request)
            if len(tries) < 3:
                raise ServingError(StatusCode.UNAVAILABLE, "the disk is busy")
        return predict(model, request, token)

    monkeypatch.setattr(inference, "predict", flaky)
    with caplog.at_level(logging.WARNING), serving(ModelSettings("m", str(base))) as client:
        write_warm_up(base / "1", shift(5))
        wait_until(lambda: offset(client) == 1005)
        assert len(tries) == 3
    assert sum("the disk is busy" in record.getMessage() for record in caplog.records) == 1


def test_no_recorded_request_that_fails_keeps_a_served_model_from_the_changes_after_it(serving, publish, wait_until):
    """Nor does a full queue of batches."""
    base, nothing = publish(1), np.array([0], np.float32)
    with serving(ModelSettings("m", str(base)), batching=BatchingConfig(max_enqueued_batches=0)) as client:
        assert client.code(offset, client)[0] == StatusCode.RESOURCE_EXHAUSTED
        write_warm_up(base / "1", predict_request(x=nothing), predict_request("shift", wrong=nothing), shift(5))
        wait_until(
            lambda: client.predict({"by": nothing}, model="m", signature="shift").outputs["y"].float_val[0] >= 1005
        )


@pytest.mark.parametrize("how", ["by a reload", "under its number"])
def test_the_changes_of_another_model_are_not_replayed(serving, publish, how, caplog):
    base, other = publish(1), publish(1, "other", source=2)
    write_warm_up(other / "1", shift(5))
    settings = ModelSettings("m", str(base))
    with caplog.at_level(logging.WARNING), serving(settings, file_system_poll_wait_s=0) as client:
        if how == "by a reload":
            client.models.HandleReloadConfigRequest(reload_request(("m", other, {})))
        else:
            (base / "1").rename(base.parent / "away")
            (other / "1").rename(base / "1")
        for _ in range(3):
            client.running.manager.poll()
            assert answering_version(client) == 1  # and its offset is 1000
    assert sum("not what was loaded" in record.getMessage() for record in caplog.records) == 1
