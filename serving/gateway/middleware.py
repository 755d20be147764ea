"""What holds for every request: its id, its budget, the size of its body, headers of safety, metrics, a log line."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
import uuid
from collections.abc import Callable, MutableMapping
from typing import Any

from async_timeout import timeout
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.metrics import Metrics, at_model_s
from serving.gateway.problems import MEDIA_TYPE, OVERLOADED, Problem, document
from serving.gateway.tracing import Tracing

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
BODY_S = 10.0  # within which a body must have come
MIN_BUDGET_MS, MAX_BUDGET_MS = 1.0, 60_000.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LISTS = re.compile(r"/v1/(recommendations|users/[^/]+/recommendations|items/[^/]+/similar)")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SAFETY = (  # headers of every answer whose route says nothing else
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", _POLICY.encode()),
)


class Frame:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        tracing: Tracing,
        hosts: Callable[[], frozenset[str] | None],
        is_full: Callable[[], bool],
    ) -> None:
        """hosts: allowed values of Host without the port, None = any. is_full: whether a list has to be refused."""
        self._app, self._metrics, self._tracing, self._hosts, self._is_full = app, metrics, tracing, hosts, is_full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, started = Headers(scope=scope), time.monotonic()
        request_id = _request_id(headers.get("x-request-id"))
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["started"] = started
        state["stated_budget_ms"] = _budget_ms(headers.get("x-budget-ms"))
        status = 500
        at_model_s.set(0.0)  # a connection's requests share a context

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = {name for name, _ in message["headers"]}
                added = [(b"x-request-id", request_id.encode()), *(one for one in _SAFETY if one[0] not in said)]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            with self._tracing.request(scope["method"], headers):
                refusal = _refusal(headers, self._hosts(), request_id)
                if refusal is not None:
                    self._metrics.refused.labels("framing").inc()
                    await refusal(scope, receive, send_framed)
                elif self._is_full() and _LISTS.fullmatch(scope["path"]):  # before it costs what the others lack
                    self._metrics.refused.labels("overloaded").inc()
                    await _overloaded(request_id)(scope, receive, send_framed)
                else:
                    await self._app(scope, _Body(receive), send_framed)
        finally:
            self._note(scope, status, time.monotonic() - started, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, scope["method"], status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if at_model_s.get():
            self._metrics.own_seconds.labels(route).observe(seconds - at_model_s.get())
        level = logging.INFO if status < 500 else logging.ERROR
        log.log(level, "request", extra={"route": route, "method": scope["method"], "status": status,
                                         "ms": round(1000 * seconds, 2), "request_id": request_id})  # fmt: skip


class _Body:
    """Receives a body up to a size and a time.

    Raises Problem 413 or 408 beyond.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes = receive, 0
        self._until = time.monotonic() + BODY_S
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()  # waits for the client to go away
        try:
            async with timeout(max(self._until - time.monotonic(), 0.001)):
                message = await self._receive()
        except asyncio.TimeoutError:
            raise Problem(408, "body-too-slow", f"the body did not come within {BODY_S:g} s") from None
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > MAX_BODY_BYTES:
            raise too_large()
        return message


def too_large() -> Problem:
    """413."""
    return Problem(413, "body-too-large", f"the body has more than {MAX_BODY_BYTES} bytes")


def _refusal(headers: Headers, hosts: frozenset[str] | None, request_id: str) -> JSONResponse | None:
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        problem = too_large()
        return JSONResponse(document(request_id, 413, problem.kind, problem.detail), 413, media_type=MEDIA_TYPE)
    host = re.sub(r":\d+$", "", headers.get("host", ""))
    if hosts is not None and host not in hosts:  # a page of another origin could else reach a loopback service
        detail = "this service answers under its own names only; gateway.allow_hosts adds more"
        return JSONResponse(document(request_id, 403, "unknown-host", detail), 403, media_type=MEDIA_TYPE)
    return None


def _overloaded(request_id: str) -> JSONResponse:
    body = document(request_id, 503, "overloaded", OVERLOADED)
    return JSONResponse(body, 503, {"Retry-After": "1"}, MEDIA_TYPE)


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _budget_ms(given: str | None) -> float | None:
    """What the caller allows; None where no number was said."""
    try:
        budget = float(given or "")
    except ValueError:
        return None
    return None if math.isnan(budget) else min(max(budget, MIN_BUDGET_MS), MAX_BUDGET_MS)
