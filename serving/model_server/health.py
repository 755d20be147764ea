"""Answers gRPC's standard health checks (grpc.health.v1.Health) of probes and load balancers.

No Watch: who wants news asks again.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from serving.model_server.text_protos import HealthCheckRequest, HealthCheckResponse

SERVING, NOT_SERVING = 1, 2
# "" is the whole server; the short names are those that stock TF Serving sets.
SERVICES = (
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "PredictionService",
    "ModelService",
)


class Health:
    """SERVING once every model has a version to serve, NOT_SERVING as soon as the server has been told to stop."""

    def __init__(self, is_complete: Callable[[], bool] = lambda: True) -> None:
        self._is_complete = is_complete
        self._is_stopping = False

    def stop(self) -> None:
        """NOT_SERVING from now on."""
        self._is_stopping = True

    def add_to(self, server: grpc.Server) -> None:
        """Answer on `server`."""
        check = grpc.unary_unary_rpc_method_handler(
            self.check,
            request_deserializer=HealthCheckRequest.FromString,
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})]
        )

    def check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        """The status of a service; NOT_FOUND for one that is not here."""
        if request.service not in SERVICES:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here; there are: {list(SERVICES)}"
            )
        is_serving = self._is_complete() and not self._is_stopping
        return HealthCheckResponse(status=SERVING if is_serving else NOT_SERVING)
