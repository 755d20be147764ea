"""A real broker, topics in it, and empty stores."""

import pytest

from benchmarks import broker as brokers
from pipeline.kafka_topic import Topic
from tests.pipeline.stream.clients import NUMBERS
from tests.serving.gateway import running


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    started = brokers.Broker(tmp_path_factory.mktemp("kafka"))
    yield started
    started.stop()


@pytest.fixture
def topic(broker):
    return Topic(broker.address, broker.make_topic(f"events-{next(NUMBERS)}"))


@pytest.fixture(params=["SQLite", "Redis"])
def urls(request, tmp_path):
    """Two empty stores of one kind."""
    if request.param == "SQLite":
        return tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    base = request.getfixturevalue("redis_server").url.removesuffix("/0")
    numbers = (2 * next(NUMBERS) % 16, (2 * next(NUMBERS) + 1) % 16)
    for number in numbers:
        running.run(lambda store: store._redis.flushdb(), f"{base}/{number}")
    return tuple(f"{base}/{number}" for number in numbers)


@pytest.fixture
def two(tmp_path):
    """Two empty SQLite stores."""
    return tmp_path / "first.sqlite", tmp_path / "second.sqlite"
