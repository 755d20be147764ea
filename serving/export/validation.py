"""Exports behind the model server, in a process of its own, asked over gRPC and REST what was recorded. The validator
calls `validate`.
"""

from __future__ import annotations

import base64
import filecmp
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from components.interpreter import module_command, module_environment
from serving.export import replay
from serving.export.saved_model import needs_scann
from serving.loopback import direct_opener, grpc_options

_CALL_S = 60.0
_LARGEST_MESSAGE = -1  # gRPC's own limit of 4 MiB is lifted


def validate(models: Mapping[str, str]) -> dict[str, int]:
    """Serve SavedModels and replay their recorded requests over gRPC and REST; of copies of one model only the first.

    models: name -> path.
    Returns the number of answers compared, by model.
    Raises ReplayError where an answer is not the recorded one, RuntimeError where the server does not start or refuses
    a request.
    """
    first_of = {
        name: next(other for other, other_path in models.items() if has_same_files(path, other_path))
        for name, path in models.items()
    }
    distinct = list(dict.fromkeys(first_of.values()))
    compared = {}
    with tempfile.TemporaryDirectory(prefix="zhiyin-serving-") as folder:
        for name in distinct:
            Path(folder, name).mkdir()
            Path(folder, name, "1").symlink_to(Path(models[name]).resolve(), target_is_directory=True)
        with _served(folder, distinct) as ports:
            for name in distinct:
                path = models[name]
                over_grpc = replay.compare(path, call_by_grpc(name, ports["grpc"]))
                compared[name] = over_grpc + replay.compare(path, _call_by_rest(name, ports["rest"], path))
    return {name: compared[first] for name, first in first_of.items()}


def has_same_files(one: str, other: str) -> bool:
    """Whether two folders hold the same files, byte for byte."""
    names, others = (
        sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*") if file.is_file())
        for folder in (one, other)
    )
    return names == others and not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


@contextmanager
def _served(folder: str, names: list[str]) -> Iterator[dict[str, int]]:
    command = module_command("serving.export.validation", folder, *names)
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            command, env=module_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert server.stdin is not None and server.stdout is not None
        try:
            line = server.stdout.readline()
            if not line:
                server.wait()
                log.seek(0)
                raise RuntimeError(
                    f"the model server did not start: {(log.read().strip().splitlines() or ['it said nothing'])[-1]}"
                )
            yield json.loads(line)
        finally:
            server.stdin.close()  # the sign to stop
            try:
                server.wait(_CALL_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            server.stdout.close()


def call_by_grpc(name: str, port: int) -> replay.Call:
    """Asks the model of that name on this machine; raises RuntimeError with code and message where it refuses."""
    address = f"127.0.0.1:{port}"
    options = [
        *grpc_options(address),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ]

    def call(signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        with grpc.insecure_channel(address, options) as channel:
            try:
                response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=_CALL_S)
            except grpc.RpcError as error:
                raise RuntimeError(f"{name}, {signature} over gRPC: {error.code().name} {error.details()}") from error
        return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}

    return call


def _call_by_rest(name: str, port: int, path: str) -> replay.Call:
    dtypes = {
        request.model_spec.signature_name: {
            key: tf.make_ndarray(value).dtype for key, value in response.outputs.items()
        }
        for request, response in replay.recorded(path)
    }

    def call(signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {key: _as_json(value.numpy()) for key, value in inputs.items()}}
        url = f"http://127.0.0.1:{port}/v1/models/{name}:predict"
        try:
            with direct_opener().open(
                urllib.request.Request(url, json.dumps(body).encode()), timeout=_CALL_S
            ) as answer:
                outputs = json.loads(answer.read())["outputs"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{name}, {signature} over REST: {error.code} {error.read().decode()}") from error
        expected = dtypes[signature]
        if len(expected) == 1:  # a single output loses its name
            outputs = {next(iter(expected)): outputs}
        return {key: _from_json(value, expected[key]) for key, value in outputs.items()}

    return call


def _as_json(array: np.ndarray) -> Any:
    return (
        np.vectorize(_text, otypes=[object])(array).tolist()
        if array.dtype.kind == "O" and array.size
        else array.tolist()
    )


def _text(value: bytes) -> str | dict[str, str]:
    """Text as it is; bytes that are none, such as a spectrogram, as TF Serving takes them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _from_json(value: Any, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "O":
        return (
            np.vectorize(str.encode, otypes=[object])(np.array(value, object))
            if np.size(value)
            else np.array(value, object)
        )
    return np.array(value, dtype)


def main() -> None:
    """Serve the models that lie under a folder by their names, say the ports as JSON, and stop when the input ends.

    Where none of them uses ScaNN they have to answer without it, as behind stock TensorFlow Serving.
    """
    from serving.model_server.config import ModelSettings, ServerConfig
    from serving.model_server.server import start

    folder, *names = sys.argv[1:]
    if not any(needs_scann(str(Path(folder, name, "1"))) for name in names):
        sys.modules["scann"] = None  # type: ignore[assignment]  # which Python takes for: not to be found
    models = tuple(ModelSettings(name, str(Path(folder, name))) for name in names)
    server = start(ServerConfig(models=models, grpc_port=0, rest_port=0, max_num_load_retries=0))
    sys.stdout.write(json.dumps({"grpc": server.grpc_port, "rest": server.rest_port}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
