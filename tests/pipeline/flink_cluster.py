"""A real Flink on loopback with Beam's job server before it: each part is a process of its own, ended by its id.

FLINK_HOME names a folder whose `lib/` holds Flink's jars; FLINK_JOB_SERVER the class path of Beam's job server for the
same Flink, as a rule one jar.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME_VARIABLE, JOB_SERVER_VARIABLE = "FLINK_HOME", "FLINK_JOB_SERVER"
MISSING = f"needs java, Flink's jars in the folder lib of {HOME_VARIABLE}, Beam's job server in {JOB_SERVER_VARIABLE}"
SLOTS = 2  # of each task manager
START_S, STOP_S = 600.0, 60.0
_OPENED = ("lang", "net", "io", "nio", "text", "time", "util", "util.concurrent", "util.concurrent.atomic")
_JAVA = (
    "-XX:+UseSerialGC",
    "-XX:MaxDirectMemorySize=1g",
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED),
)
# A machine that stands still for minutes ends no job: only a broken connection says that a task manager is gone. What
# one takes with it counts as many attempts: each part of the job that had tasks on it.
_SETTINGS = """\
jobmanager.rpc.address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.port: {rpc_port}
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest_port}
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: {slots}
taskmanager.cpu.cores: 1.0
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 512m
taskmanager.memory.task.off-heap.size: 0m
taskmanager.memory.network.min: 512m
taskmanager.memory.network.max: 512m
taskmanager.network.sort-shuffle.min-buffers: 64
taskmanager.memory.managed.size: 256m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
cluster.evenly-spread-out-slots: true
heartbeat.interval: 5000
heartbeat.timeout: 900000
heartbeat.rpc-failure-threshold: 2
akka.ask.timeout: 900 s
web.timeout: 900000
client.timeout: 900 s
rest.connection-timeout: 900000
rest.idleness-timeout: 900000
task.cancellation.timeout: 0
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 100
restart-strategy.fixed-delay.delay: 1 s
io.tmp.dirs: {folder}
"""


def is_installed() -> bool:
    """Whether there is all that a cluster needs."""
    home, job_server = os.environ.get(HOME_VARIABLE), os.environ.get(JOB_SERVER_VARIABLE)
    return bool(shutil.which("java") and job_server and home and any(Path(home, "lib").glob("flink-dist-*.jar")))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class FlinkCluster:
    """A job manager, so many task managers, and the job server, whose `address` a pipeline is given."""

    def __init__(self, folder: Path, task_managers: int = 1) -> None:
        """folder: is made; holds settings, logs and temporary files."""
        self._folder = folder.absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._rest_port, job_port = free_port(), free_port()
        self.address = f"127.0.0.1:{job_port}"
        settings = _SETTINGS.format(
            rpc_port=free_port(), rest_port=self._rest_port, slots=SLOTS, folder=self._folder / "tmp"
        )
        (self._folder / "tmp").mkdir(exist_ok=True)
        (self._folder / "flink-conf.yaml").write_text(settings, encoding="utf-8")
        self.task_managers: list[subprocess.Popen] = []
        self._others: list[subprocess.Popen] = []
        try:
            self._others.append(self._flink("entrypoint.StandaloneSessionClusterEntrypoint", "512m"))
            for _ in range(task_managers):
                self.add_task_manager()
            self._others.append(self._job_server(job_port))
            self._until(lambda: _listens(job_port), "the job server")
        except BaseException:
            self.stop()
            raise

    def add_task_manager(self) -> None:
        """One task manager more; returns when the job manager has its slots."""
        number = len(self.task_managers) + 1
        self.task_managers.append(self._flink("taskexecutor.TaskManagerRunner", "640m"))
        self._until(lambda: len(self.ask("taskmanagers")["taskmanagers"]) >= number, f"task manager {number}")

    def kill_task_manager(self) -> None:
        """kill -9 of the first task manager."""
        killed = self.task_managers.pop(0)
        killed.kill()
        killed.wait()

    def failures(self, job: str) -> int:
        """How many failures a job was started again after."""
        return len(self.ask(f"jobs/{job}/exceptions")["exceptionHistory"]["entries"])

    def ask(self, path: str) -> Any:
        """What Flink's REST API answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._rest_port}/{path}", timeout=START_S) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """End every process."""
        for process in self._processes():
            process.terminate()
        for process in self._processes():
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _processes(self) -> list[subprocess.Popen]:
        return [*self._others, *self.task_managers]

    def _flink(self, name: str, heap: str) -> subprocess.Popen:
        home = os.environ[HOME_VARIABLE]
        return self._java(f"{home}/lib/*", heap, f"org.apache.flink.runtime.{name}", "--configDir", str(self._folder))

    def _job_server(self, port: int) -> subprocess.Popen:
        words = {
            "job-host": "127.0.0.1",
            "job-port": port,
            "artifact-port": 0,
            "expansion-port": -1,
            "artifacts-dir": self._folder / "staged",
            "flink-master": f"127.0.0.1:{self._rest_port}",
            "flink-conf-dir": self._folder,
        }
        options = [f"--{name}={value}" for name, value in words.items()]
        driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        return self._java(os.environ[JOB_SERVER_VARIABLE], "512m", driver, *options)

    def _java(self, classes: str, heap: str, main: str, *words: str) -> subprocess.Popen:
        log = self._folder / f"{main.rpartition('.')[2]}-{len(self._processes())}.log"
        command = (
            "java",
            f"-Xmx{heap}",
            f"-Djava.io.tmpdir={self._folder / 'tmp'}",
            *_JAVA,
            "-cp",
            classes,
            main,
            *words,
        )
        with log.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and all(process.poll() is None for process in self._processes()):
            try:
                if is_so():
                    return
            except OSError:
                pass
            time.sleep(0.2)
        logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self._folder.glob("*.log")))
        raise RuntimeError(f"{what} does not start: {logs}")


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True
