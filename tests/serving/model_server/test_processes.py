"""Several processes behind one port, and what health says: while it serves, while it drains."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from serving.model_server import processes
from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.processes import Workers
from serving.model_server.server import start
from tests.serving.model_server.life_cycle import health


def test_health_is_serving_for_the_server_and_its_services_alone(client):
    assert [health(client.channel, name) for name in ("", "tensorflow.serving.PredictionService")] == [
        "SERVING",
        "SERVING",
    ]
    assert client.code(health, client.channel, "nothing")[0] == StatusCode.NOT_FOUND


def test_while_it_drains_health_says_so_and_every_request_is_answered(publish, connect, wait_until):
    running = start(ServerConfig(models=(ModelSettings("m", str(publish(1))),), grpc_port=0, drain_s=2))
    client = connect(running)
    assert health(client.channel) == "SERVING"
    stopping = threading.Thread(target=running.stop)
    stopping.start()
    wait_until(lambda: health(client.channel) == "NOT_SERVING")
    assert client.predict({"x": np.array([1], np.float32)}, model="m").outputs["y"].float_val[0] == 1000.5
    stopping.join()
    assert (
        client.code(client.predict, {"x": np.array([1], np.float32)}, model="m", timeout=5)[0] == StatusCode.UNAVAILABLE
    )


def test_what_one_process_cannot_do_for_all_is_refused(serving, publish):
    base = publish(1)
    with serving(ModelSettings("m", str(base)), num_processes=2) as client:  # as one of the two sees it
        code, message = client.code(client.models.HandleReloadConfigRequest, ReloadConfigRequest())
        assert code == StatusCode.FAILED_PRECONDITION and "2 processes" in message
        code, message = client.code(client.predict, {"by": np.array([1], np.float32)}, model="m", signature="shift")
        assert code == StatusCode.FAILED_PRECONDITION and "'shift'" in message
        assert client.predict({"x": np.array([1], np.float32)}, model="m").outputs["y"].float_val[0] == 1000.5


def test_a_taken_port_is_not_shared_with_another_server(publish):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        models = (ModelSettings("m", str(publish(1))),)
        with pytest.raises(OSError, match="in use"):
            Workers(ServerConfig(models, grpc_port=other.getsockname()[1], num_processes=2)).run()


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Two processes of `stand_in_worker`, what their `run` will have returned, and the ids of all that were started."""
    monkeypatch.syspath_prepend(Path(__file__).parent)  # they know it by a name that no installed package shares
    monkeypatch.setattr(processes, "_work", importlib.import_module("stand_in_worker").work)
    monkeypatch.setattr(processes, "FIRST_RETRY_S", 0.05)
    config = ServerConfig((ModelSettings("m", str(tmp_path)),), grpc_port=0, num_processes=2)
    running, codes = Workers(config), []
    thread = threading.Thread(target=lambda: codes.append(running.run()))
    thread.start()
    yield running, codes, lambda: {int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()}
    running.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_a_process_that_cannot_start_again_ends_no_other(workers, tmp_path, wait_until):
    running, codes, started = workers
    wait_until(lambda: len(started()) == 2)
    (tmp_path / "broken").touch()
    healthy, killed = running._alive
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: len(started()) >= 4)  # two tries at least
    assert healthy.is_alive() and not codes
    (tmp_path / "broken").unlink()
    wait_until(lambda: sum(process.is_alive() for process in list(running._alive)) == 2)
    assert healthy in running._alive


def test_where_no_process_is_left_and_none_can_start_all_ends_with_1(workers, tmp_path, wait_until):
    running, codes, started = workers
    wait_until(lambda: len(started()) == 2)
    (tmp_path / "broken").touch()
    for process in list(running._alive):
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: codes == [1])


@pytest.mark.slow
def test_processes_share_a_port_replace_each_other_and_end_together(publish, wait_until):
    """Two processes; one is killed and replaced while the other answers; SIGTERM ends all with 0."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "serving.model_server",
        "--port=0",
        "--num_processes=2",
        "--model_name=m",
    ]
    process = subprocess.Popen(
        [*command, f"--model_base_path={publish(1)}", "--max_num_load_retries=0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    try:
        log: list[str] = []
        lines = iter(process.stderr.readline, "")
        for line in lines:
            log.append(line)
            if found := re.search(r"2 processes: gRPC on 127.0.0.1:(\d+)", line):
                break
        port = int(found[1])
        workers = {
            int(match[1])
            for line in log
            if (match := re.search(r" (\d+) INFO gRPC on 127.0.0.1:(\d+)", line)) and int(match[2]) == port
        }
        assert len(workers) == 2 and process.pid not in workers
        reader = threading.Thread(target=log.extend, args=(lines,))
        reader.start()

        def answers() -> bool:
            with contextlib.closing(connect_to(port)) as channel:
                return health(channel) == "SERVING"

        assert all(answers() for _ in range(8))
        os.kill(min(workers), signal.SIGKILL)
        wait_until(lambda: any("another takes its place" in line for line in log))
        wait_until(
            lambda: sum(f"gRPC on 127.0.0.1:{port}" in line for line in log) == 4, timeout_s=120
        )  # 2 + the head count + 1
        assert all(answers() for _ in range(8))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        reader.join()
        assert sum("stopping" in line for line in log) == 2 and not any("Traceback" in line for line in log)
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def connect_to(port: int) -> grpc.Channel:
    """A connection of its own, for the kernel to give to any of the processes."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
