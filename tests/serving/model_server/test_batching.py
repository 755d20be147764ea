"""Requests that wait for a thread run as one batch, and nobody notices but the clock."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode

from serving.model_server.batching import Batcher
from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import BatchingConfig, ModelSettings
from serving.model_server.errors import ServingError, invalid

HOUR_S = 3600.0


class Doubling:
    """Doubles its input and notes how many rows each run has.

    A negative number fails; the number 1000 waits until `go` is set.
    """

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.go, self.busy, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.scalar = False

    def run_unbatched(self, inputs, token):
        x = inputs["x"].numpy()
        if 1000 in x:
            self.busy.set()
            while not self.go.wait(0.01):
                if token.cancelled:
                    self.ended.set()
                    raise ServingError(StatusCode.CANCELLED, "cancelled while it ran")
        else:
            self.runs.append(len(x))
        if (x < 0).any():
            raise invalid("a negative number")
        return {"y": tf.constant(x.sum() if self.scalar else 2 * x)}


@contextlib.contextmanager
def batching(**options):
    """A batcher whose only thread is held up, its function, and `ask(value, token)`, a future of the outputs."""
    batcher, function = Batcher(BatchingConfig(**{"num_batch_threads": 1, **options})), Doubling()
    with ThreadPoolExecutor(32) as pool:

        def ask(value, token=None):
            return pool.submit(
                batcher.execute,
                function,
                {"x": tf.constant(np.asarray(value, np.float32))},
                token or CancellationToken(),
            )

        try:
            first = ask([1000])
            assert function.busy.wait(20)
            yield batcher, function, ask
        finally:
            function.go.set()
        assert first.result()["y"].numpy().sum() in (1000, 2000)
        batcher.close()


def waiting(batcher) -> list[int]:
    return [len(batch.tasks) for batch in batcher._waiting]


def test_what_waits_is_one_run_and_each_request_gets_its_own_rows(wait_until):
    with batching() as (batcher, function, ask):
        asked = {number: ask([number, number + 0.5][: 1 + number % 2]) for number in range(9)}
        wait_until(lambda: waiting(batcher) == [9])
        function.go.set()
        for number, future in asked.items():
            assert future.result()["y"].numpy().tolist() == [2 * number, 2 * number + 1][: 1 + number % 2]
        assert function.runs == [13]


def test_only_equal_inner_shapes_are_merged(wait_until):
    with batching() as (batcher, function, ask):
        asked = [ask(np.ones([2, width])) for width in (1, 3, 1, 3, 3)]
        wait_until(lambda: sorted(waiting(batcher)) == [2, 3])
        function.go.set()
        assert [future.result()["y"].shape.as_list() for future in asked] == [[2, 1], [2, 3], [2, 1], [2, 3], [2, 3]]
        assert sorted(function.runs) == [4, 6]


def test_an_error_of_one_request_fails_no_other(wait_until):
    with batching() as (batcher, function, ask):
        good, bad, other = ask([1]), ask([-1]), ask([3])
        wait_until(lambda: waiting(batcher) == [3])
        function.go.set()
        assert good.result()["y"].numpy().tolist() == [2] and other.result()["y"].numpy().tolist() == [6]
        with pytest.raises(ServingError, match="negative"):
            bad.result()


def test_a_batch_has_at_most_its_rows_and_a_larger_request_is_a_batch_of_its_own(wait_until):
    with batching(max_batch_size=4) as (batcher, function, ask):
        asked = []
        for count, value in enumerate(([1, 2, 3], [4, 5], [6], [7] * 6), 1):
            asked.append(ask(value))
            wait_until(lambda count=count: sum(waiting(batcher)) == count)
        function.go.set()
        assert [len(future.result()["y"]) for future in asked] == [3, 2, 1, 6]
        assert function.runs == [3, 3, 6]


def test_more_batches_than_may_wait_are_refused_at_once(wait_until):
    with batching(max_batch_size=2, max_enqueued_batches=2) as (batcher, function, ask):
        kept = [ask([number]) for number in range(4)]
        wait_until(lambda: waiting(batcher) == [2, 2])
        with pytest.raises(ServingError) as refused:
            ask([5]).result(timeout=20)
        assert refused.value.code == StatusCode.RESOURCE_EXHAUSTED
        function.go.set()
        assert [future.result()["y"].numpy()[0] for future in kept] == [0, 2, 4, 6]
        assert function.runs == [2, 2]


def test_a_request_whose_time_is_up_is_answered_at_once_and_never_run(wait_until):
    with batching() as (batcher, function, ask):
        token = CancellationToken()
        kept, dropped = ask([1]), ask([2], token)
        wait_until(lambda: waiting(batcher) == [2])
        token.cancel()
        with pytest.raises(ServingError) as cancelled:
            dropped.result(timeout=20)
        assert cancelled.value.code == StatusCode.CANCELLED and not kept.done()
        function.go.set()
        assert kept.result()["y"].numpy().tolist() == [2]
        assert function.runs == [1]


def test_a_common_run_goes_on_until_nobody_wants_its_answer(wait_until):
    with batching() as (batcher, function, _), ThreadPoolExecutor(2) as pool:
        slow, tokens, x = Doubling(), [CancellationToken(), CancellationToken()], {"x": tf.constant([1000.0])}
        asked = [pool.submit(batcher.execute, slow, x, token) for token in tokens]
        wait_until(lambda: waiting(batcher) == [2])
        function.go.set()
        assert slow.busy.wait(20)
        for token, future, goes_on in zip(tokens, asked, (True, False)):
            token.cancel()
            with pytest.raises(ServingError, match="cancelled"):
                future.result(timeout=20)
            assert slow.ended.wait(0 if goes_on else 20) != goes_on


def test_outputs_that_are_no_rows_are_computed_for_each_request_alone(wait_until):
    with batching() as (batcher, function, ask):
        function.scalar = True
        asked = [ask([1, 2]), ask([3])]
        wait_until(lambda: waiting(batcher) == [2])
        function.go.set()
        assert [float(future.result()["y"]) for future in asked] == [3, 3]
        assert sorted(function.runs) == [1, 2, 3]  # together once, and never again
        assert float(ask([4]).result()["y"]) == 4
        assert sorted(function.runs) == [1, 1, 2, 3]


def test_a_window_waits_for_others_until_the_batch_is_full(wait_until):
    """An hour's window: one request waits, the second fills the batch and both are answered."""
    batcher, function = (
        Batcher(BatchingConfig(max_batch_size=2, batch_timeout_s=HOUR_S, num_batch_threads=2)),
        Doubling(),
    )
    with ThreadPoolExecutor(2) as pool:

        def ask(value):
            return pool.submit(batcher.execute, function, {"x": tf.constant([value])}, CancellationToken())

        first = ask(1.0)
        wait_until(lambda: waiting(batcher) == [1])
        assert not first.done() and function.runs == []
        second = ask(2.0)
        assert [future.result(timeout=20)["y"].numpy().tolist() for future in (first, second)] == [[2], [4]]
        assert function.runs == [2]
        batcher.close()


def test_a_window_ends_with_its_time():
    batcher, function = Batcher(BatchingConfig(batch_timeout_s=0.05)), Doubling()
    assert batcher.execute(function, {"x": tf.constant([1.0])}, CancellationToken())["y"].numpy().tolist() == [2]
    batcher.close()


def test_inputs_without_common_rows_run_alone():
    batcher, function = Batcher(BatchingConfig(batch_timeout_s=HOUR_S)), Doubling()
    assert batcher.execute(function, {"x": tf.constant([1.0]), "other": tf.constant(3)}, CancellationToken())[
        "y"
    ].numpy().tolist() == [2]
    assert batcher.execute(function, {"x": tf.constant([1.0]), "other": tf.constant([3, 4])}, CancellationToken())[
        "y"
    ].numpy().tolist() == [2]
    batcher.close()


def test_over_the_wire_every_caller_gets_its_own_answer(serving, publish):
    config = BatchingConfig(max_batch_size=8, batch_timeout_s=0.01, num_batch_threads=2)
    with serving(ModelSettings("m", str(publish(1))), batching=config, grpc_max_threads=16) as client:

        def ask(number: int) -> None:
            rows = np.full([1 + number % 3], number, np.float32)
            response = client.predict({"x": rows}, model="m")
            assert list(response.outputs["y"].float_val) == [number / 2 + 1000] * len(rows)

        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(ask, range(200)):
                pass
        assert client.post({"instances": [1, 2]}, "/v1/models/m:predict") == (200, {"predictions": [1000.5, 1001]})


def test_over_the_wire_a_full_queue_is_resource_exhausted_or_503(serving, publish, wait_until):
    config = BatchingConfig(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    with (
        serving(ModelSettings("m", str(publish(1))), batching=config, grpc_max_threads=8) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        batcher, blocker, x = client.running.manager._batcher, Doubling(), np.array([1], np.float32)
        try:
            pool.submit(batcher.execute, blocker, {"x": tf.constant([1000.0])}, CancellationToken())
            assert blocker.busy.wait(20)
            waits = pool.submit(client.predict, {"x": x}, model="m", timeout=60)
            wait_until(lambda: len(batcher._waiting) == 1)
            code, message = client.code(client.predict, {"x": x}, model="m")
            assert code == StatusCode.RESOURCE_EXHAUSTED and "waiting" in message
            assert client.post({"instances": [1]}, "/v1/models/m:predict")[0] == 503
        finally:
            blocker.go.set()
        assert waits.result().outputs["y"].float_val[0] == 1000.5


def test_calls_that_change_the_model_are_not_batched(serving, publish):
    """Each adds its first number to the offset and sees the sum: 1000 + 1, + 2; together the second would be lost."""
    config = BatchingConfig(batch_timeout_s=HOUR_S)
    with serving(ModelSettings("m", str(publish(1))), batching=config) as client:
        for by, offset in ((1, 1001), (2, 1003)):
            response = client.predict({"by": np.array([by], np.float32)}, model="m", signature="shift")
            assert response.outputs["y"].float_val[0] == by + offset
