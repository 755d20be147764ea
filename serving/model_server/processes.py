"""Runs several server processes on the same ports: the kernel gives each connection to one of them (SO_REUSEPORT)."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from serving.model_server.addresses import bind, resolve, url_host
from serving.model_server.config import ServerConfig

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 10.0  # between two tries to start a process again, twice as long each time
NO_VERSION = 3  # exit code of a process: a model has no version that loads, after all retries
_SPAWN = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork


class Workers:
    """Processes that each run a whole server, started again where one ends unasked."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._alive: dict[BaseProcess, connection.Connection] = {}
        self._stopping = threading.Event()
        self._retry_s = FIRST_RETRY_S

    def run(self) -> int:
        """Serve until `stop`, or until no process is left and none can start.

        Returns the exit code: 0, or 1 where a process could not start or not stop.
        """
        with _reserved(self._config) as config:
            for _ in range(config.num_processes):
                self._start(config)
            started = all(map(self._is_ready, list(self._alive)))
            if started:
                host = url_host(resolve(config.host)[0])
                log.info("%d processes: gRPC on %s:%s, REST on %s", config.num_processes, host, config.grpc_port,
                         config.rest_port or "no port")  # fmt: skip
            while started and not self._stopping.is_set():
                for sentinel in connection.wait([process.sentinel for process in self._alive], timeout=0.2):
                    self._replace(sentinel, config)
            return self._end() if started else self._end() or 1

    def stop(self) -> None:
        """Let every process drain and end."""
        self._stopping.set()

    def _start(self, config: ServerConfig) -> BaseProcess:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_work, args=(config, theirs))
        process.start()
        theirs.close()
        self._alive[process] = ours
        return process

    def _is_ready(self, process: BaseProcess) -> bool:
        """Wait until the process listens; False where it ends before that, or everything does."""
        while not self._stopping.is_set():
            if self._alive[process].poll(0.2):
                try:
                    return bool(self._alive[process].recv())
                except EOFError:
                    return False
        return False

    def _replace(self, sentinel: object, config: ServerConfig) -> None:
        process = next(process for process in self._alive if process.sentinel == sentinel)
        process.join()
        if self._stopping.is_set():
            return
        if process.exitcode == NO_VERSION:  # another would find the same
            self._stopping.set()
            return
        log.error("process %d ended with exit code %s; another takes its place", process.pid, process.exitcode)
        self._alive.pop(process).close()
        others, another = list(self._alive), self._start(config)
        if self._is_ready(another):
            self._retry_s = FIRST_RETRY_S
        elif any(other.is_alive() for other in others):
            self._stopping.wait(self._retry_s)
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        else:
            self._stopping.set()

    def _end(self) -> int:
        for process in self._alive:
            process.terminate()
        for process, ours in self._alive.items():
            process.join()
            ours.close()
        return int(any(process.exitcode for process in self._alive))


@contextlib.contextmanager
def _reserved(config: ServerConfig) -> Iterator[ServerConfig]:
    """The configuration with its free ports chosen, and both ports kept from others.

    Raises OSError where a port is taken.
    """
    with contextlib.ExitStack() as stack:
        ports = {}
        addresses = resolve(config.host)
        for name in ("grpc_port", "rest_port"):
            port = getattr(config, name)
            if port is None:
                continue
            for probe in bind(addresses, port, listen=False):  # not shared, so that nobody else's server is joined
                probe.close()
            held = bind(addresses, port, shared=True, listen=False)  # they never listen, so they get no connection
            for one in held:
                stack.enter_context(one)
            ports[name] = held[0].getsockname()[1]
        yield replace(config, **ports)


def _work(config: ServerConfig, parent: connection.Connection) -> None:
    """One process: serve until SIGTERM, or until the parent is gone."""
    from serving.model_server.server import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    stop = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            parent.recv()  # nothing is ever sent: it returns when the parent has ended
        stop.set()

    def ready() -> None:
        signal.signal(
            signal.SIGTERM, lambda *_: stop.set()
        )  # before this it just ends the process: there is nothing to drain
        parent.send(True)
        threading.Thread(target=watch, daemon=True).start()

    raise SystemExit(serve(config, stop, ready))
