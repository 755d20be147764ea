"""Serves TF Serving's gRPC interfaces, PredictionService and ModelService, on the stubs of tensorflow-serving-api."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigResponse

from serving.model_server import describe, inference
from serving.model_server.addresses import resolve, url_host
from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import MAX_MESSAGE_BYTES, GrpcTransport, ServerConfig, models_from_proto
from serving.model_server.errors import ServingError, failed_precondition, invalid
from serving.model_server.health import Health
from serving.model_server.metrics import Metrics
from serving.model_server.versions import VersionManager

log = logging.getLogger(__name__)

# A client that pings to keep its connection alive, with or without calls under way, is not sent away (too_many_pings).
_KEEPALIVE = {"grpc.http2.max_ping_strikes": 0, "grpc.keepalive_permit_without_calls": 1}


class GrpcServer:
    """Both services on one port, answering from `__init__` on; `stop` lets running calls finish."""

    def __init__(self, config: ServerConfig, manager: VersionManager, metrics: Metrics, health: Health) -> None:
        """Raises OSError where the port is taken, or the key and certificates cannot be used."""
        self._pool = futures.ThreadPoolExecutor(config.grpc_max_threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._pool,
            options=list(_channel_options(config).items()),
            maximum_concurrent_rpcs=config.grpc_max_threads + config.max_queued_requests,  # beyond: RESOURCE_EXHAUSTED
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(manager, metrics), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(manager, config.num_processes), self._server
        )
        health.add_to(self._server)
        self.port = self._listen(config)
        self._server.start()

    def _listen(self, config: ServerConfig) -> int | None:
        """The port of all addresses; None where there is only a socket."""
        credentials, port = _credentials(config.grpc), config.grpc_port
        if port is not None:
            for address in resolve(config.host):
                port = self._add(f"{url_host(address)}:{port}", credentials)
        if config.grpc.socket_path is not None:
            self._add(f"unix:{config.grpc.socket_path}", credentials)
        return port

    def _add(self, target: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(target)
            return self._server.add_secure_port(target, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {target} for gRPC: {error}") from error

    def stop(self, grace_s: float) -> Callable[[], None]:
        """Take no more calls from now on; what is returned waits for the running ones, `grace_s` at most."""
        ended = self._server.stop(grace_s)

        def wait() -> None:
            ended.wait()
            self._pool.shutdown(wait=False)

        return wait


def _channel_options(config: ServerConfig) -> dict[str, int | str]:
    limits = {"grpc.max_send_message_length": MAX_MESSAGE_BYTES, "grpc.max_receive_message_length": MAX_MESSAGE_BYTES}
    shared = {"grpc.so_reuseport": int(config.num_processes > 1)}  # else a second server would get half of the requests
    return {**limits, **shared, **_KEEPALIVE, **dict(config.grpc.channel_arguments)}


def _credentials(transport: GrpcTransport) -> grpc.ServerCredentials | None:
    if transport.alts:
        return grpc.alts_server_credentials()
    if transport.tls is None:
        return None
    tls = transport.tls
    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress and GetModelMetadata. MultiInference stays UNIMPLEMENTED."""

    def __init__(self, manager: VersionManager, metrics: Metrics) -> None:
        self._manager = manager
        self._metrics = metrics

    def Predict(self, request, context):
        return self._answer("Predict", inference.predict, request, context)

    def Classify(self, request, context):
        return self._answer("Classify", inference.classify, request, context)

    def Regress(self, request, context):
        return self._answer("Regress", inference.regress, request, context)

    def GetModelMetadata(self, request, context):
        return self._answer(
            "GetModelMetadata", lambda model, request, token: describe.model_metadata(model, request), request, context
        )

    def _answer(self, api: str, answer: Callable[..., Any], request: Any, context: grpc.ServicerContext) -> Any:
        started_s = time.perf_counter()
        status = grpc.StatusCode.OK
        try:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            token = CancellationToken()
            # gRPC calls back when the call ends in any way: its deadline, its caller, or our answer, which nothing can
            # cancel.
            if not context.add_callback(token.cancel) or context.time_remaining() == 0:
                raise ServingError(grpc.StatusCode.CANCELLED, "the call ended before its turn came")
            with self._manager.serving(request.model_spec) as model:
                return answer(model, request, token)
        except ServingError as error:
            status = grpc.StatusCode.DEADLINE_EXCEEDED if _expired(error, context) else error.code
            context.abort(status, error.message)
        except Exception:
            status = grpc.StatusCode.INTERNAL
            log.exception("%s on model %r failed", api, request.model_spec.name)
            context.abort(status, "internal error; the server's log has the details")
        finally:
            self._metrics.observe(
                self._manager.metric_name(request.model_spec), api, "GRPC", status.name, time.perf_counter() - started_s
            )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, manager: VersionManager, num_processes: int) -> None:
        self._manager = manager
        self._num_processes = num_processes

    def GetModelStatus(self, request, context):
        try:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            return describe.model_status(self._manager, request.model_spec)
        except ServingError as error:
            context.abort(error.code, error.message)

    def HandleReloadConfigRequest(self, request, context):
        try:
            if self._num_processes > 1:
                raise failed_precondition(
                    f"one of {self._num_processes} processes cannot reload for all; start anew with another file"
                )
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid("only a config with a model_config_list can be loaded")
            models = models_from_proto(request.config)
            log.info(
                "serving another set of models from now on: %s", ", ".join(model.name for model in models) or "none"
            )
            self._manager.reload(models)
        except ServingError as error:
            context.abort(error.code, error.message)
        return ReloadConfigResponse()


def _expired(error: ServingError, context: grpc.ServicerContext) -> bool:
    return error.code == grpc.StatusCode.CANCELLED and context.time_remaining() == 0
