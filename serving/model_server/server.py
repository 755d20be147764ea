"""Start, run and stop the whole server."""

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

from serving.model_server.config import ServerConfig
from serving.model_server.errors import ServingError
from serving.model_server.flags import parse_flags
from serving.model_server.processes import Workers

if TYPE_CHECKING:
    from serving.model_server.rest import RestService
    from serving.model_server.versions import Manager

log = logging.getLogger(__name__)

THREAD_SWITCH_S = 0.0005  # Python's 5 ms between threads would be half of the time an answer may take


class RunningServer:
    """A server that answers. A context manager: leaving the block stops it."""

    def __init__(self, config: ServerConfig) -> None:
        """Load the models and listen. `start` is the way to say it.

        Raises ServingError where a model does not load, OSError where a port is taken.
        """
        from serving.model_server.grpc_service import GrpcServer
        from serving.model_server.health import Health
        from serving.model_server.metrics import Metrics
        from serving.model_server.rest import RestService
        from serving.model_server.versions import Manager

        self._config = config
        self.manager: Manager = Manager(config)
        metrics = Metrics()
        self._health = Health()
        self.manager.start()
        self._rest: _RestThread | None = None
        try:
            if config.rest_port is not None:
                self._rest = _RestThread(config, RestService(config, self.manager, metrics))
            self._grpc = GrpcServer(config, self.manager, metrics, self._health)
        except OSError:
            if self._rest is not None:
                self._rest.stop()
            self.manager.stop()
            raise
        self.grpc_port = self._grpc.port
        self.rest_port = self._rest.port if self._rest is not None else None
        log.info("gRPC on %s:%d, REST on %s", config.host, self.grpc_port, self.rest_port or "no port")

    def stop(self) -> None:
        """Say NOT_SERVING for the time to drain, then take no more requests, let the running ones finish, and let go of the models."""
        self._health.stop()
        time.sleep(self._config.drain_s)
        wait = self._grpc.stop(self._config.shutdown_grace_s)
        if self._rest is not None:
            self._rest.stop()
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

        self._service = service
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(
            service.application(), access_log=None, shutdown_timeout=config.shutdown_grace_s, handler_cancellation=True
        )
        try:
            self._loop.run_until_complete(self._runner.setup())
            site = web.TCPSite(self._runner, config.host, config.rest_port, reuse_port=config.num_processes > 1 or None)
            self._loop.run_until_complete(site.start())
        except OSError:
            self._loop.run_until_complete(self._runner.cleanup())
            self._loop.close()
            raise
        self.port: int = self._runner.addresses[0][1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest-loop", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._service.close()


def start(config: ServerConfig) -> RunningServer:
    """A server that has loaded its models and listens; `.grpc_port` and `.rest_port` say where.

    Raises ServingError where a model does not load, OSError where a port is taken.
    """
    return RunningServer(config)


def serve(config: ServerConfig, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> int:
    """One process: serve until `stop` is set. ready: called once it listens. Returns the exit code: 0, or 1 where it cannot start."""
    _set_up_process(config)
    try:
        server = start(config)
    except (ServingError, OSError) as error:
        log.error("cannot start: %s", error)
        return 1
    ready()
    stop.wait()
    log.info(
        "stopping: health says so for %g s, then running requests have %g s to finish",
        config.drain_s,
        config.shutdown_grace_s,
    )
    server.stop()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 1 where the server cannot start; usage errors exit with 2."""
    config = parse_flags(sys.argv[1:] if argv is None else argv)
    _log_to_stderr()
    stop = threading.Event()
    try:
        if config.num_processes == 1:
            return serve(config, stop, lambda: _on_signal(stop.set))
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


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s", stream=sys.stderr
    )
