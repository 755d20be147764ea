"""One gateway process: `python -m serving.gateway SETTINGS.json`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from components.settings import from_json
from serving.gateway.app import create_app
from serving.gateway.config import ServerSettings
from serving.gateway.logs import log_to_stderr
from serving.gateway.service import OpenToAll, make_service
from serving.gateway.stores.base import StoreUnavailable

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 2000  # beyond, uvicorn answers 503 at once
MAX_HEAD_BYTES = 1 << 19  # of a request's line and headers: 100 ids of any letters in a query
GRACE_S = 10
THREAD_SWITCH_S = 0.0005  # CPython's 5 ms would be the wait of a store's thread that has an answer


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


class _Protocol(HttpToolsProtocol):
    """HTTP with a bound on a request's line and headers: what has not ended by then is no request."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._head_bytes: int | None = 0  # None in a body

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("the request's line and headers are too large")

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()


class _Server(uvicorn.Server):
    """Ends with exit code 0 when it is asked to stop; uvicorn itself would end by the signal that it was sent."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


async def serve(settings: ServerSettings, ready: Callable[[int], None]) -> None:
    """Answer until SIGTERM or SIGINT. ready: is told the port once requests can be sent.

    Raises StoreUnavailable, OpenToAll, ValueError, OSError where it cannot start.
    """
    bound = listening_socket(settings.host, settings.port)
    service = await make_service(settings)
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        http=_Protocol,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
    )
    server = _Server(config)
    announce = asyncio.create_task(_announce(server, bound, ready))
    try:
        await server.serve([bound])
    finally:
        announce.cancel()


async def _announce(server: uvicorn.Server, bound: socket.socket, ready: Callable[[int], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.02)
    gc.collect()
    gc.freeze()  # what lives as long as the process is not looked through again in the middle of an answer
    ready(bound.getsockname()[1])


def main() -> int:
    """Run one gateway. The exit code is 0, or 2 where it cannot start, with a line on stderr."""
    settings = from_json(ServerSettings, Path(sys.argv[1]).read_text(encoding="utf-8"))
    log_to_stderr(settings.gateway.log_level)
    sys.setswitchinterval(THREAD_SWITCH_S)
    try:
        uvloop.run(serve(settings, lambda port: log.info("listening", extra={"host": settings.host, "port": port})))
    except (StoreUnavailable, OpenToAll, ValueError, OSError) as error:
        log.error("cannot start: %s", error)
        return 2
    return 0
