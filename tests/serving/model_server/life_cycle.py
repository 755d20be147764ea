"""What clients see of a model's versions."""

from __future__ import annotations

import grpc
import numpy as np

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
