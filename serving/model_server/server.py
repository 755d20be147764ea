"""Starts, runs and stops the whole model server."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from serving.model_server.addresses import bind, resolve, url_host
from serving.model_server.config import ServerConfig
from serving.model_server.errors import ServingError
from serving.model_server.flags import parse_flags
from serving.model_server.processes import NO_VERSION, Workers

if TYPE_CHECKING:
    from serving.model_server.rest import RestService
    from serving.model_server.versions import VersionManager

log = logging.getLogger(__name__)

IDLE_CONNECTION_S = 75.0  # a REST connection that sends no request, or not all of its head, for so long is closed
THREAD_SWITCH_S = 0.0005  # Python's 5 ms between threads would be half of the time an answer may take


class RunningServer:
    """A server that answers. A context manager: leaving the block stops it."""

    def __init__(self, config: ServerConfig, on_failure: Callable[[ServingError], None]) -> None:
        """Load the models and listen: see `start`."""
        from serving.model_server.grpc_service import GrpcServer
        from serving.model_server.health import Health
        from serving.model_server.metrics import Metrics
        from serving.model_server.rest import RestService
        from serving.model_server.versions import VersionManager

        self._config = config
        self.manager: VersionManager = VersionManager(config)
        metrics = Metrics()
        self._health = Health(lambda: self.manager.is_complete)
        self.manager.start(on_failure)
        self.rest: _RestThread | None = None
        try:
            if config.rest_port is not None:
                self.rest = _RestThread(config, RestService(config, self.manager, metrics))
            self._grpc = GrpcServer(config, self.manager, metrics, self._health)
        except OSError:
            if self.rest is not None:
                self.rest.stop()
            self.manager.stop()
            raise
        self.grpc_port = self._grpc.port
        self.rest_port = self.rest.port if self.rest is not None else None
        log.info("gRPC on %s, REST on %s", _place(config, self.grpc_port), self.rest_port or "no port")

    def stop(self) -> None:
        """Say NOT_SERVING for the time to drain, take no more requests, let running ones finish, free the models."""
        self._health.stop()
        time.sleep(self._config.drain_s)
        wait = self._grpc.stop(self._config.shutdown_grace_s)
        if self.rest is not None:
            self.rest.stop()
        wait()
        self.manager.stop()

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _RestThread:
    """aiohttp with an event loop of its own, in a thread."""

    def __init__(self, config: ServerConfig, service: RestService) -> None:
        from aiohttp import web

        sockets = bind(resolve(config.host), config.rest_port or 0, shared=config.num_processes > 1)
        self.port: int = sockets[0].getsockname()[1]
        self.service = service
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(
            service.application(),
            access_log=None,
            logger=_client_faults(),
            keepalive_timeout=IDLE_CONNECTION_S,
            shutdown_timeout=config.shutdown_grace_s,
            handler_cancellation=True,
        )
        self._loop.run_until_complete(self._runner.setup())
        for one in sockets:
            self._loop.run_until_complete(web.SockSite(self._runner, one).start())
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest-loop", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.service.close()


def start(config: ServerConfig, on_failure: Callable[[ServingError], None] | None = None) -> RunningServer:
    """A server that listens; `.grpc_port` and `.rest_port` say where.

    Every model has had an attempt to load. One that has no version that loads is tried again while the others answer.
    on_failure: called from a thread where it has none after all retries; the server runs on. None: a line in the log.
    Raises ServingError where no model, or after all retries one, has a version that loads; OSError where a port is
    taken.
    """
    return RunningServer(config, on_failure or (lambda error: log.error("%s", error.message)))


def serve(config: ServerConfig, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> int:
    """One process: serve until `stop` is set.

    ready: called once it listens.
    Returns the exit code: 0; 1 where it cannot start; NO_VERSION where a model has no version that loads after all
    retries.
    """
    _set_up_process(config)
    failures: list[ServingError] = []

    def give_up(error: ServingError) -> None:
        failures.append(error)
        stop.set()

    try:
        server = start(config, give_up)
    except (ServingError, OSError) as error:
        log.error("cannot start: %s", error)
        return 1
    ready()
    stop.wait()
    for failure in failures:
        log.error("giving up after all retries: %s", failure)
    log.info("stopping: health says so for %g s, then running requests have %g s to finish", config.drain_s,
             config.shutdown_grace_s)  # fmt: skip
    server.stop()
    return NO_VERSION if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns the exit code: 0, or 1 where the server cannot start; usage errors exit with 2.
    """
    _log_to_stderr()
    config = parse_flags(sys.argv[1:] if argv is None else argv)
    stop = threading.Event()
    try:
        if config.num_processes == 1:
            return int(serve(config, stop, lambda: _on_signal(stop.set)) != 0)
        workers = Workers(config)
        _on_signal(workers.stop)
        return workers.run()
    except OSError as error:
        log.error("cannot start: %s", error)
        return 1
    except KeyboardInterrupt:  # nothing to drain yet
        return 130


def _on_signal(call: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: call())


def _set_up_process(config: ServerConfig) -> None:
    _log_to_stderr()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.setswitchinterval(THREAD_SWITCH_S)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(config.intra_op_threads)
    tf.config.threading.set_inter_op_parallelism_threads(config.inter_op_threads)


def _place(config: ServerConfig, port: int | None) -> str:
    host = resolve(config.host)[0]
    places = [f"{url_host(host)}:{port}"] if port is not None else []
    return " and ".join([*places, *([config.grpc.socket_path] if config.grpc.socket_path else [])])


def _client_faults() -> logging.Logger:
    """aiohttp's logger of requests that are not HTTP: whoever sends them is answered and does not fill the log."""
    logger = logging.getLogger("serving.model_server.http")
    logger.setLevel(logging.CRITICAL)
    return logger


def _log_to_stderr() -> None:
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("serving.model_server").setLevel(logging.INFO)  # whatever a caller wants of others' loggers
