"""A real Kafka broker on loopback, as one process: KRaft mode, broker and controller in one. Ended by its own id.

The environment variable KAFKA_HOME names a folder whose `libs/` holds the jars of Kafka.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

HOME_VARIABLE = "KAFKA_HOME"
MISSING = f"needs java, and Kafka's jars in the folder libs of {HOME_VARIABLE}"
START_S, STOP_S = 600.0, 60.0
_JAVA = ("-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_CLUSTER = "zhiyinzhiyinzhiyinzhiA"  # 16 bytes in base64, of any value
_SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
initial.broker.registration.timeout.ms=3600000
"""


def is_installed() -> bool:
    """Whether there is all that a broker needs."""
    return shutil.which("java") is not None and any(_libraries().glob("kafka_*.jar"))


class Broker:
    """A running broker; what it has acknowledged stays in its folder over a kill -9."""

    def __init__(self, folder: Path) -> None:
        """folder: is made, and holds its data, settings and log."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port, controller_port = _free_port(), _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._settings, self._log = folder / "server.properties", folder / "log"
        text = _SETTINGS.format(port=self.port, controller_port=controller_port, folder=folder.absolute())
        self._settings.write_text(text, encoding="utf-8")
        formatting = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._settings))
        if formatting.wait():
            raise RuntimeError(f"Kafka's folder could not be made: {self.log()[-2000:]}")
        self.start()

    def start(self) -> None:
        """Start it, or start it again; returns when it answers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        self._process = self._java("kafka.Kafka", str(self._settings))
        until = time.monotonic() + START_S
        asking = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        while True:
            try:
                if asking.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.kill()
                    raise RuntimeError(f"Kafka does not start: {self.log()[-2000:]}") from None

    def make_topic(self, name: str, partitions: int = 3) -> str:
        """A topic of that name, which is returned when it can be used."""
        from confluent_kafka.admin import AdminClient, NewTopic

        asking = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        asking.create_topics([NewTopic(name, partitions, 1)])[name].result()
        while name not in asking.list_topics(timeout=START_S).topics:
            time.sleep(0.05)
        return name

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end; after a while it is not asked."""
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _java(self, *words: str) -> subprocess.Popen:
        command = ("java", *_JAVA, "-cp", f"{_libraries()}/*", *words)
        with self._log.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _libraries() -> Path:
    return Path(os.environ.get(HOME_VARIABLE) or os.devnull, "libs").absolute()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
