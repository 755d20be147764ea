"""Calls that change a model: one at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from grpc import StatusCode

from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import ModelSettings
from serving.model_server.errors import ServingError
from serving.model_server.loader import load_model

STEPS = np.array(2_000, np.int64)  # some milliseconds of counting


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
