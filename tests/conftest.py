"""Settings that must stand before TensorFlow is imported, in every test process, and what the processes share."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

pytest_plugins = ["tests.clips", "tests.processor_seconds"]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: a folder that `make` fills in one of the workers and all read; nobody changes it."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made_once"

    def made(name: str, make: Callable[[Path], object]) -> Path:
        shared.mkdir(exist_ok=True)
        folder, partial = shared / name, shared / f"{name}.partial"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(partial, ignore_errors=True)  # of a worker that failed
                partial.mkdir()
                make(partial)
                partial.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A real Redis server of this process's tests."""
    from tests.serving.gateway import running

    if running.REDIS is None:
        pytest.skip("redis-server is not installed")
    server = running.Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()
