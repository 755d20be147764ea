"""What clients see of a model's versions, and what operators write."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.model_server.text_protos import HealthCheckRequest, HealthCheckResponse

POLL_S = 0.05  # of the servers that the fixture `serving` starts


def answering_version(client, model: str = "m", **version) -> int:
    """Which version answers; the small model's outputs say so, too: y = x / 2 + 1000 * version."""
    response = client.predict({"x": np.array([0], np.float32)}, model=model, **version)
    assert response.outputs["y"].float_val[0] == 1000 * response.model_spec.version.value
    return response.model_spec.version.value


def states(client, model: str = "m") -> dict[int, str]:
    """Version -> state, in the order in which the server lists them."""
    return {
        int(one["version"]): one["state"]
        for one in client.http("GET", f"/v1/models/{model}")[1]["model_version_status"]
    }


def health(channel: grpc.Channel, service: str = "") -> str:
    """SERVING or NOT_SERVING, as gRPC's standard health check says it."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    return {1: "SERVING", 2: "NOT_SERVING"}[check(HealthCheckRequest(service=service), timeout=10).status]


def reload_request(*models: tuple[str, Path, dict[str, int]]) -> ReloadConfigRequest:
    """Names, base paths and labels of models, all of whose versions are wanted."""
    request = ReloadConfigRequest()
    for name, base, labels in models:
        model = request.config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
        model.model_version_policy.all.SetInParent()
        model.version_labels.update(labels)
    return request


def config_text(*models: tuple[str, Path]) -> str:
    """A models file."""
    entries = (f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}' for name, base in models)
    return f"model_config_list {{ {' '.join(entries)} }}"


def write_warm_up(version: Path, *requests: PredictRequest) -> None:
    """Record requests as those of a version folder, there at once."""
    (version / "assets.extra").mkdir(exist_ok=True)
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    partial = version.parent.parent / "requests.partial"
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for request in requests:
            log = PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
    partial.rename(file)


def predict_request(signature: str = "", **inputs) -> PredictRequest:
    """A request to the model "m"."""
    request = PredictRequest(model_spec=ModelSpec(name="m", signature_name=signature))
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request
