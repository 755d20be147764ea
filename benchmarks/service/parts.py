"""The parts of a running service as real processes: `zhiyin up`, further gateways, Redis, the loop; each by its id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.interpreter import module_command, module_environment
from components.settings import SettingsError

ROOT = Path(__file__).parents[2]
START_S, STOP_S = 300.0, 60.0
MODEL_SERVER, GATEWAY, LOOP, REDIS = "model server", "gateway", "loop", "Redis"
_MODULES = {MODEL_SERVER: "serving.model_server", GATEWAY: "serving.gateway"}


@dataclass(frozen=True)
class Setup:
    """How a service is set up."""

    store: str = "SQLite"  # or Redis
    gateways: int = 1
    settings: tuple[tuple[str, Any], ...] = ()  # of the section `gateway`

    def __str__(self) -> str:
        return f"{self.store}, {self.gateways} gateway{'s' if self.gateways > 1 else ''}"


class Process:
    """A child that is ended with its own children, by their ids."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self._log = command, log
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=module_environment(), stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """kill -9, without its children."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end; after a while it is not asked."""
        family = family_of(self.pid) if not self.has_ended() else []
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        for pid in family[1:]:
            kill(pid)


class Service:
    """A running service: addresses of its gateways, and its processes."""

    def __init__(self, urls: Sequence[str], ups: Sequence[Process], redis: Process | None, config: Path, store: str):
        self.urls, self.config, self.store = tuple(urls), config, store
        self._ups, self._redis = ups, redis
        self._loop: Process | None = None

    def pid_of(self, part: str) -> int | None:
        """The process that is this part now; None while it is away."""
        if part == LOOP:
            return self._loop.pid if self._loop and not self._loop.has_ended() else None
        if part == REDIS:
            return self._redis.pid if self._redis and not self._redis.has_ended() else None
        return next((pid for pid in family_of(self._ups[0].pid)[1:] if _MODULES[part] in command_of(pid)), None)

    def start_again(self, part: str) -> None:
        """What nobody keeps running but the operator: Redis and the loop. `zhiyin up` starts the others itself."""
        if part == REDIS and self._redis:
            self._redis.start()
        if part == LOOP and self._loop:
            self._loop.start()

    @contextmanager
    def with_loop(self) -> Iterator[None]:
        """`zhiyin loop` beside the service."""
        words = ("loop", "--config", str(self.config), "--store", self.store)
        self._loop = Process(module_command("pipeline.cli", *words), self.config.with_name("loop.log"))
        try:
            yield
        finally:
            self._loop.stop()


@contextmanager
def service_of(demo: Path, folder: Path, setup: Setup) -> Iterator[Service]:
    """Start a service on a copy of a finished demo.

    demo: the folder in which `zhiyin demo` was run. folder: a new one, of this service alone.
    Raises SettingsError where the demo or Redis is missing.
    """
    config = _configuration(demo, folder, setup)
    with ExitStack() as stack:
        redis, store = None, str(folder / "work" / "store.sqlite")
        if setup.store == "Redis":
            redis, store = _redis(folder)
            stack.callback(redis.stop)
        ups, urls = [], []
        others: tuple[str, ...] = ()
        for number in range(setup.gateways):
            up, url = _up(config, folder / f"up{number}.log", ("--store", store, *others))
            stack.callback(up.stop)
            ups.append(up)
            urls.append(url)
            others = others or ("--no-import", "--model-server", _model_server_of(up))  # the first one's, for all
        yield Service(urls, ups, redis, config, store)


def _configuration(demo: Path, folder: Path, setup: Setup) -> Path:
    run, data = demo / "runs" / "demo", demo / "data" / "demo"
    if not (run / "serving").is_dir() or not data.is_dir():
        raise SettingsError(f"--data-dir: there is no finished demo in {demo}; ./zhiyin demo makes it")
    shutil.copytree(run / "serving", folder / "work" / "serving")
    settings = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    for table in ("catalogue", "events", "users"):
        settings["data"][table]["path"] = str(data / f"{table}.csv")
    settings["data"]["media_root"] = str(data)
    del settings["ground_truth"]
    settings |= {"work_dir": str(folder / "work"), "gateway": dict(setup.settings)}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _up(config: Path, log: Path, words: Sequence[str]) -> tuple[Process, str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = module_command("pipeline.cli", "up", "--config", str(config), "--port", str(port), *words)
    up = Process(command, log)
    try:
        wait_for(lambda: up.has_ended() or is_ready(url), START_S, "the service")
        if up.has_ended():
            raise RuntimeError(f"the service did not start: {up.log()[-1000:]}")
    except BaseException:
        up.stop()
        raise
    return up, url


def _model_server_of(up: Process) -> str:
    """Its address, from its command line."""
    found: list[str] = []

    def is_found() -> bool:  # /proc may miss a child while others end
        found[:] = [words for words in map(command_of, family_of(up.pid)) if _MODULES[MODEL_SERVER] in words]
        return bool(found)

    wait_for(is_found, START_S, f"the {MODEL_SERVER}")
    port = next(word.removeprefix("--port=") for word in found[0].split() if word.startswith("--port="))
    return f"127.0.0.1:{port}"


def _redis(folder: Path) -> tuple[Process, str]:
    program = shutil.which("redis-server")
    if program is None:
        raise SettingsError("redis-server is not installed; Debian's package has it")
    port, data = free_port(), folder / "redis"
    data.mkdir()
    flags = ("--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--save", "")
    process = Process([program, *flags, "--appendonly", "yes", "--appendfsync", "always"], folder / "redis.log")
    wait_for(lambda: process.has_ended() or listens(port), START_S, REDIS)
    return process, f"redis://127.0.0.1:{port}/0"


def is_ready(url: str) -> bool:
    """Whether a gateway answers with its model and its store."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{url}/health/ready", timeout=2
        ) as page:
            return b'"status":"ok"' in page.read()
    except OSError:
        return False


def listens(port: int) -> bool:
    """Whether a process of this machine takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    """Raises RuntimeError where it does not come true in time."""
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(0.1)


def family_of(pid: int) -> list[int]:
    """A process and its descendants, as they are now."""
    try:
        tasks = [*Path(f"/proc/{pid}/task").glob("*/children")]
        children = [int(child) for task in tasks for child in task.read_text(encoding="ascii").split()]
    except OSError:
        return [pid]  # it ends just now
    return [pid, *(member for child in children for member in family_of(child))]


def command_of(pid: int) -> str:
    """The words of a process's command line; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill(pid: int) -> None:
    """kill -9; nothing where it has ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
