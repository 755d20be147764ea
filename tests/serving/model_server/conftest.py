"""Tiny SavedModels, a server on free ports over them, and clients that know nothing but the protocols."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.server import start

spec = tf.TensorSpec


class Toy(tf.Module):
    """Signatures small enough to check by hand. `offset` tells versions apart."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = tf.Variable(offset)
        self.counted = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[spec([None], tf.float32, name="x")])
    def half(self, x):
        return {"y": x / 2 + self.offset}

    @tf.function(
        input_signature=[
            spec([None], tf.string, name="id"),
            spec([None, 2], tf.int32, name="n"),
            spec([None], tf.float32, name="f"),
        ]
    )
    def mixed(self, id, n, f):  # noqa: A002
        return {"label": tf.strings.join([id, "!"]), "total": tf.reduce_sum(n, axis=1), "f": f, "raw_bytes": id}

    @tf.function(
        input_signature=[
            spec([None], tf.int64, name="i64"),
            spec([None], tf.bool, name="b"),
            spec([None], tf.float64, name="d"),
            spec([None], tf.uint8, name="u8"),
            spec([None], tf.uint64, name="u64"),
        ]
    )
    def kinds(self, i64, b, d, u8, u64):
        return {"i64": i64, "b": b, "d": d, "u8": u8, "u64": u64}

    @tf.function(input_signature=[spec([None], tf.float32, name="by")])
    def shift(self, by):
        return {"y": by + self.offset.assign_add(by[0])}

    @tf.function(input_signature=[spec([None], tf.float32, name="x")])
    def scalar(self, x):
        return {"sum": tf.reduce_sum(x)}

    @tf.function(input_signature=[spec([None], tf.float32, name="x")])
    def uneven(self, x):
        return {"a": x, "b": x[:1]}

    @tf.function(input_signature=[spec([], tf.int64, name="steps")])
    def spin(self, steps):
        return {"steps": tf.while_loop(lambda i: i < steps, lambda i: i + 1, [tf.constant(0, tf.int64)])[0]}

    @tf.function(input_signature=[spec([], tf.int64, name="steps")])
    def count(self, steps):
        """One more than before, written `steps` steps after it was read."""
        before = self.counted.read_value()
        later = tf.while_loop(lambda i: i < before + steps, lambda i: i + 1, [before])[0]
        return {"count": tf.identity(self.counted.assign(later - steps + 1))}

    @tf.function(input_signature=[spec([None], tf.string, name="text")])
    def length(self, text):
        return {"text": text, "bytes": tf.strings.length(text)}

    @tf.function(input_signature=[spec([None], tf.float32, name="x"), spec([None], tf.float32, name="z")])
    def add(self, x, z):
        return {"y": x + z}

    @tf.function(input_signature=[spec([None], tf.float16, name="x")])
    def narrow(self, x):
        return {"y": x}

    @tf.function(input_signature=[spec([None], tf.int32, name="n")])
    def picture(self, n):
        return {"y": tf.zeros([tf.reduce_sum(n), 100])}

    @tf.function(input_signature=[spec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        a = tf.io.parse_example(inputs, {"a": tf.io.FixedLenFeature([2], tf.float32)})["a"]
        return {"classes": tf.tile([["low", "high"]], [tf.shape(a)[0], 1]), "scores": a}

    @tf.function(input_signature=[spec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        n = tf.io.parse_example(inputs, {"n": tf.io.FixedLenFeature([], tf.int64)})["n"]
        return {"outputs": tf.cast(n, tf.float32) * 2}


def save_toy(folder: Path, offset: float = 0.0) -> Path:
    """A version folder with the Toy model; written elsewhere and renamed, as a publisher should."""
    toy = Toy(offset)
    names = ["mixed", "kinds", "scalar", "uneven", "spin", "length", "add", "narrow", "picture", "classify", "regress"]
    work = folder.parent.parent / f"{folder.parent.name}.{folder.name}.work"
    tf.saved_model.save(
        toy, str(work), signatures={"serving_default": toy.half, **{name: getattr(toy, name) for name in names}}
    )
    _set_method_names(work)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return work.rename(folder)


def save_small(folder: Path, offset: float = 0.0) -> Path:
    """A version folder with the default signature alone: y = x / 2 + offset. Quick to load."""
    toy = Toy(offset)
    work = folder.parent.parent / f"{folder.parent.name}.{folder.name}.work"
    signatures = {"serving_default": toy.half, **{name: getattr(toy, name) for name in ("spin", "shift", "count")}}
    tf.saved_model.save(toy, str(work), signatures=signatures)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return work.rename(folder)


def _set_method_names(folder: Path) -> None:
    """TF 2 calls every signature a predict signature; TF 1 wrote what the server's Classify and Regress ask for."""
    file = folder / "saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    signatures["classify"].method_name = "tensorflow/serving/classify"
    signatures["regress"].method_name = "tensorflow/serving/regress"
    file.write_bytes(saved.SerializeToString())


class Client:
    """One server seen from outside."""

    def __init__(self, grpc_port: int, rest_port: int | None) -> None:
        self.rest_port = rest_port
        self.running: Any = None
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{grpc_port}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def predict(
        self, inputs: dict[str, Any], model: str = "toy", signature: str = "", timeout: float | None = 20, **version
    ):
        request = PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if "version" in version:
            request.model_spec.version.value = version["version"]
        if "label" in version:
            request.model_spec.version_label = version["label"]
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
        return self.predictions.Predict(request, timeout=timeout)

    def http(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, str]:
        """Status, JSON answer (text where it is none), Content-Type.

        body: str and bytes go as they are, the rest as JSON.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)
        try:
            raw = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
            connection.request(method, path, raw.encode() if isinstance(raw, str) else raw, headers or {})
            response = connection.getresponse()
            data, content_type = response.read(), response.getheader("Content-Type", "")
        finally:
            connection.close()
        return (
            response.status,
            json.loads(data) if content_type.startswith("application/json") else data.decode(),
            content_type,
        )

    def post(self, body: Any, path: str = "/v1/models/toy:predict") -> tuple[int, Any]:
        return self.http("POST", path, body)[:2]

    def code(self, call, *args, **kwargs) -> tuple[grpc.StatusCode, str]:
        """Code and message of a gRPC call that must fail."""
        with pytest.raises(grpc.RpcError) as failure:
            call(*args, **kwargs)
        return failure.value.code(), failure.value.details()


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory) -> Path:
    """Base path of the Toy model, versions 1 (offset 0)."""
    base = tmp_path_factory.mktemp("models") / "toy"
    save_toy(base / "1")
    return base


@pytest.fixture(scope="session")
def small_versions(tmp_path_factory) -> Path:
    """Folders 1, 2, 3 of the small model to copy from; their offsets are 1000, 2000, 3000."""
    base = tmp_path_factory.mktemp("small") / "made"
    for number in (1, 2, 3):
        save_small(base / str(number), offset=number * 1000.0)
    return base


@pytest.fixture(scope="session")
def server(toy_path):
    config = ServerConfig(
        models=(ModelSettings("toy", str(toy_path), labels={"stable": 1}),),
        grpc_port=0,
        rest_port=0,
        prometheus_path="/monitoring/prometheus/metrics",
        file_system_poll_wait_s=0,
    )
    with start(config) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    client = Client(server.grpc_port, server.rest_port)
    yield client
    client.channel.close()


@pytest.fixture
def publish(tmp_path, small_versions):
    """publish(2, "m") puts version 2 of the small model under the model "m" by one rename; returns the base path."""

    def publish(number: int, model: str = "m", source: int | None = None) -> Path:
        base = tmp_path / model
        base.mkdir(exist_ok=True)
        work = tmp_path / f"{model}.{number}.work"
        shutil.copytree(small_versions / str(source or number), work)
        work.rename(base / str(number))
        return base

    return publish


@contextlib.contextmanager
def _serving(*models: ModelSettings, **kwargs):
    options = {"file_system_poll_wait_s": 0.05, "load_retry_interval_s": 3600, "max_num_load_retries": 0, **kwargs}
    with start(ServerConfig(models=models, grpc_port=0, rest_port=0, **options)) as running:
        client = Client(running.grpc_port, running.rest_port)
        client.running = running
        yield client
        client.channel.close()


@pytest.fixture
def connect():
    """`connect(running_server)` is a client of it."""
    clients = []

    def connect(running) -> Client:
        clients.append(Client(running.grpc_port, running.rest_port))
        clients[-1].running = running
        return clients[-1]

    yield connect
    for client in clients:
        client.channel.close()


@pytest.fixture(scope="session")
def make_serving():
    """As `serving`, for fixtures that live longer than a test."""
    return _serving


@pytest.fixture
def serving():
    """`with serving(ModelSettings(...), option=...) as client`: a server of its own that polls all the time."""
    return _serving


@pytest.fixture
def wait_until():
    """`wait_until(condition)` returns when the condition holds and fails where it does not within 20 s."""

    def wait(condition, timeout_s: float = 20) -> None:
        give_up = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up, "it did not happen"
            time.sleep(0.02)

    return wait
