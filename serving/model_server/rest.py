"""Serves TF Serving's REST interface, the paths under /v1/models, on aiohttp."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import zlib
from collections.abc import Callable
from concurrent import futures
from typing import Any
from urllib.parse import unquote

from aiohttp import http_exceptions, web
from grpc import StatusCode
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.model_server import describe, inference, json_examples, json_tensors
from serving.model_server.cancellation import CancellationToken
from serving.model_server.config import ServerConfig
from serving.model_server.errors import ServingError, invalid
from serving.model_server.metrics import Metrics
from serving.model_server.storage import MAX_VERSION
from serving.model_server.versions import VersionManager

log = logging.getLogger(__name__)

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,40})|/labels/(?P<label>[^/:]+))?"
_POST_PATH = re.compile(rf"{_MODEL}:(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET_PATH = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?", re.IGNORECASE)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
BODIES_IN_MEMORY = 4  # of the largest size allowed: what all bodies together may take while they are read and answered


class _BadTransfer(Exception):
    """A body that cannot be read: the HTTP status and why. The connection is of no use any more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RestService:
    """Answers HTTP requests. The event loop only moves bytes: JSON and graphs run in the pool's threads."""

    def __init__(self, config: ServerConfig, manager: VersionManager, metrics: Metrics) -> None:
        self._manager = manager
        self._metrics = metrics
        self._transport = config.rest
        self._prometheus_path = config.prometheus_path
        self._timeout_s = config.rest_timeout_s
        self._pool = futures.ThreadPoolExecutor(config.rest_num_threads, thread_name_prefix="rest")
        self._max_in_flight = config.rest_num_threads + config.max_queued_requests
        self._in_flight = 0
        self.body_bytes = 0  # of all requests that are being read or answered

    def application(self) -> web.Application:
        """The aiohttp application with every path of this service."""
        app = web.Application(client_max_size=self._transport.max_body_bytes)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request: web.Request) -> web.Response:
        response = await self._answer(request)
        if self._transport.cors:
            response.headers.update(_CORS)
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        if path == self._prometheus_path:
            return web.Response(body=self._metrics.page(), content_type="text/plain")
        if request.method == "OPTIONS" and re.match("https?://", request.headers.get("Origin", "")):
            return web.Response()  # a browser's question before a request of another origin
        if not path.lower().startswith("/v1/"):
            return _response(404, _error(f"Not found: {path}"))
        try:
            if request.method == "POST" and (match := _POST_PATH.fullmatch(path)):
                return await self._infer(request, _spec(match), match["method"].lower())
            if request.method == "GET" and (match := _GET_PATH.fullmatch(path)):
                return _response(200, self._describe(_spec(match), match["metadata"] is not None))
            raise invalid(f"Malformed request: {request.method} {path}")
        except ServingError as error:
            return _response(error.http_status, _error(error.message))
        except _BadTransfer as error:
            response = _response(error.status, _error(str(error)))
            response.force_close()
            return response
        except Exception:
            log.exception("%s %s failed", request.method, path)
            return _response(500, _error("internal error; the server's log has the details"))

    async def _infer(self, request: web.Request, spec: ModelSpec, method: str) -> web.Response:
        taken = _Counted(self)
        try:
            return await self._run(spec, method, await self._read(request, taken))
        finally:
            taken.give_back()

    async def _read(self, request: web.Request, taken: _Counted) -> bytes:
        """The whole body, decompressed.

        Raises _BadTransfer where it is too large, too slow or not what its headers claim.
        """
        content, limit = request.content, self._transport.max_body_bytes
        if (request.content_length or 0) > limit:
            raise _BadTransfer(413, f"the body has {request.content_length} bytes, expected {limit} at most")
        body = bytearray()
        try:
            while True:
                if content.is_eof():
                    part = content.read_nowait()
                else:
                    part = await asyncio.wait_for(content.readany(), self._timeout_s)
                if not part:
                    return bytes(body)
                body += part
                if len(body) > limit:
                    raise _BadTransfer(413, f"the body has more than {limit} bytes, the most that is read")
                taken.add(len(part), BODIES_IN_MEMORY * limit)
        except asyncio.TimeoutError:
            raise _BadTransfer(408, f"nothing of the body came within {self._timeout_s:g} s") from None
        except ConnectionError as error:
            raise _BadTransfer(400, "the connection ended within the body") from error
        except (web.RequestPayloadError, http_exceptions.HttpProcessingError, zlib.error) as error:
            raise _BadTransfer(400, f"the body is not what the request's headers claim: {error}") from error

    async def _run(self, spec: ModelSpec, method: str, body: bytes) -> web.Response:
        if self._in_flight >= self._max_in_flight:
            raise ServingError(
                StatusCode.UNAVAILABLE, f"{self._in_flight} requests are under way or waiting; try again later"
            )
        started_s = time.perf_counter()
        status = StatusCode.CANCELLED  # where the client goes away
        token = CancellationToken()
        self._in_flight += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._pool, _METHODS[method], self._manager, spec, body, token
        )
        work.add_done_callback(self._finished)
        try:
            answer = await asyncio.wait_for(asyncio.shield(work), self._timeout_s)
            status = StatusCode.OK
            return web.Response(body=answer, content_type="application/json")
        except asyncio.TimeoutError:
            status = StatusCode.DEADLINE_EXCEEDED
            raise ServingError(status, f"no answer within {self._timeout_s:g} s") from None
        except ServingError as error:
            status = error.code
            raise
        except Exception:
            status = StatusCode.INTERNAL
            raise
        finally:
            if not work.done():  # timed out, or the client went away
                work.cancel()
                token.cancel()
            self._metrics.observe(
                self._manager.metric_name(spec),
                method.capitalize(),
                "REST",
                status.name,
                time.perf_counter() - started_s,
            )

    def _finished(self, work: asyncio.Future) -> None:
        self._in_flight -= 1
        if not work.cancelled():
            work.exception()  # where nobody waits any more, an error is no news

    def _describe(self, spec: ModelSpec, metadata: bool) -> bytes:
        if not metadata:
            return _dump(describe.to_json(describe.model_status(self._manager, spec)))
        with self._manager.serving(spec) as model:
            return _dump(describe.metadata_json(model))


class _Counted:
    """The bytes of one request's body, counted among those of all."""

    def __init__(self, service: RestService) -> None:
        self._service = service
        self._bytes = 0

    def add(self, count: int, limit: int) -> None:
        """Raises ServingError (UNAVAILABLE) where all bodies together take more than `limit` bytes."""
        self._bytes += count
        self._service.body_bytes += count
        if self._service.body_bytes > limit:
            raise ServingError(StatusCode.UNAVAILABLE, "too many large requests at once; try again later")

    def give_back(self) -> None:
        self._service.body_bytes -= self._bytes


def _predict(manager: VersionManager, spec: ModelSpec, body: bytes, token: CancellationToken) -> bytes:
    request = json_tensors.parse(body)
    name = _signature_name(request)
    with manager.serving(spec) as model:
        signature = model.signature(name)
        if not signature.inputs:
            raise invalid(
                f"signature {signature.name!r} has no inputs, so neither 'instances' nor 'inputs' can be told"
            )
        if "instances" in request and "inputs" in request:
            raise invalid("Not formatted correctly: expecting only one of 'inputs' or 'instances'")
        if "instances" in request:
            outputs = signature(json_tensors.rows(request["instances"], signature.inputs), token)
            return json_tensors.dump({"predictions": json_tensors.from_outputs_rows(outputs)})
        if "inputs" in request:
            outputs = signature(json_tensors.columns(request["inputs"], signature.inputs), token)
            return json_tensors.dump({"outputs": json_tensors.from_outputs_columns(outputs)})
        raise invalid("Missing 'inputs' or 'instances' key")


def _classify(manager: VersionManager, spec: ModelSpec, body: bytes, token: CancellationToken) -> bytes:
    request = json_tensors.parse(body)
    proto = ClassificationRequest(
        model_spec=ModelSpec(signature_name=_signature_name(request)), input=json_examples.to_input(request)
    )
    with manager.serving(spec) as model:
        return json_tensors.dump(
            {"results": json_examples.classifications(inference.classify(model, proto, token).result)}
        )


def _regress(manager: VersionManager, spec: ModelSpec, body: bytes, token: CancellationToken) -> bytes:
    request = json_tensors.parse(body)
    proto = RegressionRequest(
        model_spec=ModelSpec(signature_name=_signature_name(request)), input=json_examples.to_input(request)
    )
    with manager.serving(spec) as model:
        return json_tensors.dump({"results": json_examples.regressions(inference.regress(model, proto, token).result)})


_METHODS: dict[str, Callable[[VersionManager, ModelSpec, bytes, CancellationToken], bytes]] = {
    "predict": _predict,
    "classify": _classify,
    "regress": _regress,
}


def _signature_name(request: dict[str, Any]) -> str:
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"'signature_name' key must be a string value, got {json_tensors.shown(name)}")
    json_tensors.encode_text(name, "'signature_name'")
    return name


def _spec(match: re.Match) -> ModelSpec:
    spec = ModelSpec(name=unquote(match["name"]))
    if match["version"] is not None:
        if int(match["version"]) > MAX_VERSION:
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(match["version"])
    if match["label"] is not None:
        spec.version_label = unquote(match["label"])
    return spec


def _error(message: str) -> bytes:
    return json_tensors.dump({"error": message})


def _dump(answer: Any) -> bytes:
    return json.dumps(answer, indent=1, ensure_ascii=False).encode()


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")
