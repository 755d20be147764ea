"""Real processes for the tests: a model server on the tiny world, gateways, a Redis server. Each is ended by its own
process id."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx

from components.config import DataConfig, TableConfig
from components.settings import to_json
from serving.gateway.config import GatewayConfig, ServerSettings
from serving.gateway.records import Event, StoredItem
from serving.gateway.stores.base import open_store

START_S = 600  # far above what a start takes on a machine that does nothing else
REDIS = shutil.which("redis-server")
NUM_ITEMS = 30
VIEW_SEEDS = {"content": 8, "behaviour": 9}  # of the random vectors by one of them alone; i29 has none by behaviour
DATA = DataConfig(
    catalogue=TableConfig(path=""),
    events=TableConfig(path=""),
    embeddings={"style": 4},
    user_categorical=("age_group",),
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A child process that writes its output to a file."""

    def __init__(self, command, log, is_ready, environment=None):
        self._command, self._log, self._is_ready = command, Path(log), is_ready
        self._environment = os.environ | {"PYTHONPATH": os.getcwd(), **(environment or {})}  # noqa: PTH109
        self._process = None
        self.start()

    def start(self):
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, env=self._environment
            )
        until = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                raise AssertionError(f"not ready, exit code {self._process.wait()}: {self.log()[-2000:]}")
            time.sleep(0.05)

    def kill(self):
        """kill -9."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self):
        """SIGTERM; returns the exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(timeout=60)

    def log(self):
        return self._log.read_text(encoding="utf-8", errors="replace")


def answers_on(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ModelServer(Process):
    """Our model server over a folder of versions: the model `tiny`, and copies of it for tests that change its
    items."""

    def __init__(self, folder, log, copies=0):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._names = [f"copy{number}" for number in range(copies)]
        entry = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
        entries = [entry.format(name, folder) for name in ("tiny", *self._names)]
        config = Path(log).with_suffix(".config")
        config.write_text(f"model_config_list {{ {' '.join(entries)} }}", encoding="utf-8")
        flags = (f"--port={self.port}", "--rest_api_port=0", f"--model_config_file={config}")
        command = [sys.executable, "-m", "serving.model_server", *flags, "--file_system_poll_wait_seconds=1"]
        super().__init__(command, log, lambda: answers_on(self.port))

    def copy(self):
        """The name of a copy that nobody else uses."""
        return self._names.pop()


class Redis(Process):
    """A Redis server with a folder of its own, that syncs every write."""

    def __init__(self, folder, appendfsync="always"):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        flags = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder), "--save", "")
        command = [REDIS, *flags, "--appendonly", "yes", "--appendfsync", appendfsync]
        super().__init__(command, folder / "log", self._pings)

    def _pings(self):
        with socket.socket() as probe:
            probe.settimeout(1)
            try:
                probe.connect(("127.0.0.1", self.port))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False


class Gateway(Process):
    """A gateway, and a client of its API."""

    def __init__(self, folder, settings, environment=None):
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        self.settings = replace(settings, port=settings.port or free_port())
        file = folder / "settings.json"
        file.write_text(to_json(self.settings), encoding="utf-8")
        self.url = f"http://127.0.0.1:{self.settings.port}"
        command = [sys.executable, "-m", "serving.gateway", str(file)]
        super().__init__(command, folder / "log", lambda: answers_on(self.settings.port), environment)

    def start(self):
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        super().start()

    def kill(self):
        self.http.close()
        super().kill()

    def stop(self):
        self.http.close()
        return super().stop()

    def recommend(self, user_id, **query):
        return self.http.get(f"/v1/users/{user_id}/recommendations", params=query).json()

    def ids(self, user_id, **query):
        return [item["item_id"] for item in self.recommend(user_id, **query)["items"]]

    def post(self, *events):
        return self.http.post("/v1/events", json={"events": list(events)})


class Load:
    """Posts events and asks for lists in a thread; remembers what was acknowledged, and tries again what was not."""

    def __init__(self, gateway, budget_ms=500):
        self._gateway, self._budget = gateway, {"X-Budget-Ms": str(budget_ms)}
        self.acknowledged, self.answers, self.statuses = [], [], []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        number = 0
        with httpx.Client(base_url=self._gateway.url, timeout=5, trust_env=False) as client:
            while not self._stop.is_set():
                event = {"user_id": f"u{number % 7}", "item_id": f"i{number % 30}", "event_id": f"load-{number}"}
                try:
                    posted = client.post("/v1/events", json=event)
                    if posted.status_code == 200:
                        self.acknowledged.append(event["event_id"])
                        number += 1
                    answer = client.get(f"/v1/users/u{number % 7}/recommendations", headers=self._budget)
                    self.statuses.append(answer.status_code)
                    self.answers.append(answer.json())
                except httpx.TransportError:
                    time.sleep(0.05)  # the gateway itself is away; the same event is sent again

    def stop(self):
        self._stop.set()
        self._thread.join(timeout=30)
        return self


def settings(model_server, store, model_name="tiny", **gateway):
    config = GatewayConfig(
        **{"budget_ms": 20_000.0, "tell_s": 60.0, "catalog_poll_s": 0.2, "rate_limit_burst": 100_000, **gateway}
    )
    address = model_server if isinstance(model_server, str) else model_server.address
    return ServerSettings(
        model_name=model_name, data=DATA, gateway=config, model_servers=(address,), store=str(store), port=0
    )


def fill(store_url, num_items=NUM_ITEMS, media_uri=None, num_events=5):
    """The tiny world's items, and a few events that make i1 the most popular."""

    async def go():
        store = open_store(str(store_url))
        await store.open()
        await store.put_items(
            [
                StoredItem(
                    f"i{row}",
                    {
                        "title": f"Title {row}",
                        "domain": ("music", "film", "")[row % 3],
                        "published_at": 1_600_000_000 + row,
                        **({"media_uri": media_uri} if media_uri and row == 0 else {}),
                    },
                )
                for row in range(num_items)
            ]
        )
        events = [
            Event(f"seed{n}", f"someone{n}", "i1" if n < 3 else "i2", "like", 1_700_000_000 + n)
            for n in range(num_events)
        ]
        await store.add_events(events)
        await store.close()

    asyncio.run(go())


def run(coroutine_of, store_url):
    """Open a store, run a coroutine on it, close it."""

    async def go():
        store = open_store(str(store_url))
        await store.open()
        try:
            return await coroutine_of(store)
        finally:
            await store.close()

    return asyncio.run(go())


def lines(process):
    """The log's JSON lines."""
    return [json.loads(line) for line in process.log().splitlines() if line.startswith("{")]


def until(is_so, seconds=240):
    """Wait for something that has to come true."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.1)
