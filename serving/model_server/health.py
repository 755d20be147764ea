"""gRPC's standard health service (grpc.health.v1.Health), as probes and load balancers ask it. No Watch: who wants news asks again."""

from __future__ import annotations

import grpc

from serving.model_server.text_protos import HealthCheckRequest, HealthCheckResponse

SERVING, NOT_SERVING = 1, 2
SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")  # "" is the whole server


class Health:
    """SERVING from the first answer on, NOT_SERVING as soon as the server has been told to stop."""

    def __init__(self) -> None:
        self._status = SERVING

    def stop(self) -> None:
        """NOT_SERVING from now on."""
        self._status = NOT_SERVING

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
        return HealthCheckResponse(status=self._status)
