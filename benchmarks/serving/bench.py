"""Builds the served models, each in a process of its own, and puts them under load."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2

from benchmarks.goals import Row, row_of
from benchmarks.serving.load import write_requests
from serving.export import replay, saved_model
from serving.export.validation import validate
from serving.loopback import grpc_options

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".zhiyin" / "bench" / "serving"
SECONDS = 10.0  # of each load
SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}
RATES = {"10k": (50, 200), "100k": (50, 100, 200, 300), "1M": (20, 50)}  # requests a second
START_S = 300.0
REQUESTS = 500
MODEL = "full"


def run_cases() -> list[Row]:
    """Every size and index at its rates, then a swap of versions under load, and the same requests by every way in."""
    rows: list[Row] = []
    for size, num_items in SIZES.items():
        for kind in ("exact", "scann"):
            folder, found = model_of(num_items, kind)
            rows += [row_of(f"index_{size}", f"ours, {kind}", name, value) for name, value in found.items()]
            with served(folder) as address:
                requests = _requests(folder)
                for rate in RATES[size]:
                    result = under_load(address, requests, rate)
                    rows += [
                        row_of(f"full_{size}_{rate}rps", f"ours, {kind}", name, value) for name, value in result.items()
                    ]
                    print(f"{size} {kind} {rate}/s: {result}", flush=True)
    rows += _best(rows)
    rows += _swap(model_of(SIZES["100k"], "exact")[0])
    version = next(model_of(SIZES["10k"], "exact")[0].iterdir())
    rows.append(row_of("same_answers", "ours", "largest_difference", _difference(version)))
    return rows


def under_load(address: str, requests: Path, rate: float, seconds: float = SECONDS) -> dict[str, float]:
    """What the load generator, in its own process, saw."""
    command = [sys.executable, "-m", "benchmarks.serving.load", address, str(requests), str(rate), str(seconds)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def _best(rows: list[Row]) -> list[Row]:
    """As contender `ours` the index that is the default for the size: exact below a few thousand items, else ScaNN; and
    the growth."""
    chosen = [
        {**row, "contender": "ours"}
        for row in rows
        if row["contender"] == "ours, scann" and row["case"].startswith("full_")
    ]
    p50 = {row["case"]: row["value"] for row in chosen if row["metric"] == "p50_ms"}
    growth = p50["full_1M_50rps"] / p50["full_10k_50rps"]
    return [*chosen, row_of("growth_10k_to_1M", "ours", "p50_ms_ratio", growth)]


def _swap(folder: Path) -> list[Row]:
    """A new version comes, and the old one goes, in the middle of the load."""
    with tempfile.TemporaryDirectory() as copy:
        base = Path(copy, MODEL)
        shutil.copytree(folder, base)
        with served(base) as address:
            requests = _requests(base)
            push = threading.Timer(6.0, _push, [base])
            push.start()
            result = under_load(address, requests, 100, 25.0)
            push.join()
            state = _states(address)
    assert state == {1: "END", 2: "AVAILABLE"}, f"no swap took place: {state}"
    return [row_of("swap_100k_100rps", "ours", name, value) for name, value in result.items()]


def _push(base: Path) -> None:
    shutil.copytree(base / "1", base / ".incoming")
    (base / ".incoming").rename(base / "2")


def _difference(version: Path) -> float:
    """Largest difference of scores by gRPC, REST and in this process from those recorded at export; raises where ids
    differ."""
    loaded = saved_model.load(str(version))
    replay.compare(str(version), replay.in_process(loaded.signatures))
    validate({MODEL: str(version)})
    differences = [0.0]
    for request, response in replay.recorded(str(version)):
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
        differences.append(float(np.abs(outputs["scores"].numpy() - tf.make_ndarray(response.outputs["scores"])).max()))
    return max(differences)


def model_of(num_items: int, kind: str) -> tuple[Path, dict[str, float]]:
    """The folder of a served model, made on first use and anew when our code changes."""
    from pipeline.fingerprint import code_fingerprint

    key = code_fingerprint("serving.export.build_servable")
    folder = CACHE / key[:12] / f"{num_items}-{kind}" / MODEL
    report = folder.parent / "report.json"
    if not report.is_file():
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [
            sys.executable,
            "-m",
            "benchmarks.serving.make",
            str(folder / "1"),
            str(num_items),
            kind,
            str(report),
        ]
        subprocess.run(command, cwd=ROOT, check=True, env=_environment())
    return folder, json.loads(report.read_text())


def _requests(folder: Path) -> Path:
    path = folder.parent / "requests.bin"
    (first, _), *_ = replay.recorded(str(folder / "1"))
    from benchmarks.serving.world import people

    made = []
    for user in people(REQUESTS):
        request = predict_pb2.PredictRequest()
        request.CopyFrom(first)
        request.model_spec.name = MODEL
        request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([user]))
        made.append(request.SerializeToString())
    write_requests(path, made)
    return path


def first_request(folder: Path) -> dict[str, tf.Tensor]:
    """A recorded request for a page."""
    (request, _), *_ = replay.recorded(str(folder / "1"))
    return {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of our server over the folder, in a process of its own, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        sys.executable,
        "-m",
        "serving.model_server",
        "--port",
        address.split(":")[1],
        "--model_name",
        MODEL,
        "--model_base_path",
        str(folder),
        "--enable_batching",
        "--grpc_max_threads=64",  # a request that waits for its batch holds one
    ]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=log, stderr=log)
        try:
            _wait(address, server)
            yield address
        finally:
            server.terminate()
            server.wait(60)


def _wait(address: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(grpc.RpcError):
            if "AVAILABLE" in _states(address).values():
                return
        time.sleep(0.2)
    raise RuntimeError("the model server did not start")


def _states(address: str) -> dict[int, str]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    with grpc.insecure_channel(address, grpc_options(address)) as channel:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=5)
    names = get_model_status_pb2.ModelVersionStatus.State
    return {status.version: names.Name(status.state) for status in answer.model_version_status}


def _environment() -> Mapping[str, str]:
    return {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
