"""More requests than threads, requests that take too long, and a server that is told to stop while it works."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.model_server import rest
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.server import start

HOURS = 10**12  # of counting steps


def spin(client, steps: int = HOURS, timeout: float | None = None):
    """A gRPC call under way that counts to `steps`."""
    request = PredictRequest(model_spec=ModelSpec(name="m", signature_name="spin"))
    request.inputs["steps"].CopyFrom(tf.make_tensor_proto(np.array(steps, np.int64)))
    return client.predictions.Predict.future(request, timeout=timeout)


def in_flight(client) -> int:
    return client.running.manager.status(ModelSpec(name="m"))[0].in_flight


def test_a_full_queue_answers_resource_exhausted_at_once(serving, publish, wait_until):
    with serving(ModelSettings("m", str(publish(1))), grpc_max_threads=1, max_queued_requests=1) as client:
        running = spin(client)
        wait_until(lambda: in_flight(client) == 1)
        waiting = spin(client)
        time.sleep(0.2)
        started = time.monotonic()
        code, _ = client.code(client.predict, {"x": np.array([1], np.float32)}, model="m", timeout=10)
        assert code == StatusCode.RESOURCE_EXHAUSTED and time.monotonic() - started < 2
        running.cancel()
        waiting.cancel()
        wait_until(lambda: in_flight(client) == 0)
        wait_until(lambda: _answers(client))


def _answers(client) -> bool:
    try:
        return client.predict({"x": np.array([1], np.float32)}, model="m").outputs["y"].float_val[0] == 1000.5
    except grpc.RpcError as error:
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED  # the cancelled calls have not been taken off yet
        return False


def test_a_full_queue_answers_503_at_once(serving, publish, wait_until):
    with serving(ModelSettings("m", str(publish(1))), rest_num_threads=1, max_queued_requests=1) as client:
        body = json.dumps({"signature_name": "spin", "inputs": HOURS})
        busy = [http.client.HTTPConnection("127.0.0.1", client.rest_port) for _ in range(2)]
        for connection in busy:
            connection.request("POST", "/v1/models/m:predict", body)
            time.sleep(0.2)
        assert in_flight(client) == 1
        status, answer = client.post({"instances": [1]}, "/v1/models/m:predict")
        assert status == 503 and "try again" in answer["error"]
        assert client.http("GET", "/v1/models/m")[0] == 200  # what costs nothing is still answered
        for connection in busy:
            connection.close()  # a client that goes away stops its run
        wait_until(lambda: in_flight(client) == 0)
        assert client.post({"instances": [1]}, "/v1/models/m:predict") == (200, {"predictions": [1000.5]})


def test_a_fault_of_the_server_over_rest_counts_as_internal(serving, publish, monkeypatch):
    def broken(manager, spec, body, token):
        raise ZeroDivisionError

    monkeypatch.setitem(rest._METHODS, "predict", broken)
    with serving(ModelSettings("m", str(publish(1))), prometheus_path="/metrics") as client:
        assert client.post({"instances": [1]}, "/v1/models/m:predict")[0] == 500
        page = client.http("GET", "/metrics")[1]
    assert 'request_count{model_name="m",status="INTERNAL"} 1.0' in page and "CANCELLED" not in page


def test_rest_answers_504_after_its_timeout_and_stops_the_run(serving, publish, wait_until):
    with serving(ModelSettings("m", str(publish(1))), rest_timeout_s=0.3) as client:
        started = time.monotonic()
        status, answer = client.post({"signature_name": "spin", "inputs": HOURS}, "/v1/models/m:predict")
        assert status == 504 and "0.3 s" in answer["error"] and time.monotonic() - started < 5
        wait_until(lambda: in_flight(client) == 0)


def test_dead_calls_do_not_fill_the_pool(serving, publish):
    """Twenty calls that time out, two threads: a good call still gets its turn."""
    with serving(ModelSettings("m", str(publish(1))), grpc_max_threads=2) as client:
        calls = [spin(client, timeout=0.3) for _ in range(20)]
        for call in calls:
            assert call.code() == StatusCode.DEADLINE_EXCEEDED
        assert (
            client.predict({"x": np.array([1], np.float32)}, model="m", timeout=10).outputs["y"].float_val[0] == 1000.5
        )


def test_stopping_lets_running_calls_finish_and_takes_no_new_ones(publish, connect, wait_until):
    running = start(ServerConfig(models=(ModelSettings("m", str(publish(1))),), grpc_port=0))
    client = connect(running)
    call = spin(client, steps=400_000)
    wait_until(lambda: in_flight(client) == 1)
    stopping = threading.Thread(target=running.stop)
    stopping.start()
    assert call.result().outputs["steps"].int64_val[0] == 400_000
    stopping.join()
    assert (
        client.code(client.predict, {"x": np.array([1], np.float32)}, model="m", timeout=5)[0] == StatusCode.UNAVAILABLE
    )


def test_what_does_not_finish_in_time_is_cancelled(publish, connect, wait_until):
    running = start(
        ServerConfig(models=(ModelSettings("m", str(publish(1))),), grpc_port=0, rest_port=0, shutdown_grace_s=0.3)
    )
    client = connect(running)
    call = spin(client)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)) as connection:
        connection.request("POST", "/v1/models/m:predict", json.dumps({"signature_name": "spin", "inputs": HOURS}))
        wait_until(lambda: in_flight(client) == 2)
        started = time.monotonic()
        running.stop()
        assert time.monotonic() - started < 10
        assert call.code() in (StatusCode.CANCELLED, StatusCode.UNAVAILABLE)
        wait_until(lambda: in_flight(client) == 0)


def test_a_taken_port_is_an_error(serving, publish):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        grpc_port, rest_port = client.running.grpc_port, client.running.rest_port
        for ports in ({"grpc_port": grpc_port, "rest_port": None}, {"grpc_port": 0, "rest_port": rest_port}):
            with pytest.raises(OSError, match="port|address|bind"):
                start(ServerConfig(models=(ModelSettings("m", str(base)),), **ports))
        assert client.post({"instances": [1]}, "/v1/models/m:predict")[0] == 200


def snapshot(folder) -> dict[str, tuple[int, int]]:
    """Every path under a folder with its kind and rights and its time of change."""
    return {str(path): (path.stat().st_mode, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def test_two_servers_serve_one_folder_that_neither_may_write_to(serving, publish):
    base = publish(1)
    for path in [*base.rglob("*"), base]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(base)
    try:
        with serving(ModelSettings("m", str(base))) as first, serving(ModelSettings("m", str(base))) as second:
            for client in (first, second, first):
                assert client.post({"instances": [1]}, "/v1/models/m:predict") == (200, {"predictions": [1000.5]})
        assert snapshot(base) == before
    finally:
        for path in [base, *base.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_finishes_running_requests_when_told_to_stop(publish, wait_until, number):
    base, grpc_port, rest_port = publish(1), free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "serving.model_server",
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        "--model_name=m",
    ]
    process = subprocess.Popen(
        [*command, f"--model_base_path={base}", "--file_system_poll_wait_seconds=1"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        lines = iter(process.stderr.readline, "")
        assert any("gRPC on 127.0.0.1" in line for line in lines)
        log: list[str] = []
        reader = threading.Thread(target=log.extend, args=(lines,))
        reader.start()
        answers: list[bytes] = []

        def ask():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", rest_port, timeout=60)) as connection:
                connection.request(
                    "POST", "/v1/models/m:predict", json.dumps({"signature_name": "spin", "inputs": 400_000})
                )
                answers.append(connection.getresponse().read())

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.5)  # the request is at work: it counts for a second or more
        assert not answers
        process.send_signal(number)
        asking.join()
        assert answers == [b'{"outputs": 400000}']
        assert process.wait(30) == 0
        reader.join()
        assert any("stopping" in line for line in log) and not any("Traceback" in line for line in log)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", grpc_port)):
            pass
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.slow
def test_the_command_answers_for_the_models_that_load_and_exits_with_1_where_one_never_does(publish, tmp_path):
    base = publish(1)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    config = tmp_path / "models.txt"
    entries = (f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" }}'
               for path in (base, tmp_path / "broken"))  # fmt: skip
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "serving.model_server",
            f"--port={free_port()}",
            f"--model_config_file={config}",
            "--max_num_load_retries=1",
            "--load_retry_interval_micros=500000",
            "--flush_filesystem_caches=false",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    for line in ("--flush_filesystem_caches does nothing here", "'m' version 1: loaded", "gRPC on 127.0.0.1",
                 "giving up after all retries: broken version 1", "no saved_model.pb"):  # fmt: skip
        assert line in done.stderr
    assert "Traceback" not in done.stderr
