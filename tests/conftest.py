"""Settings that must stand before TensorFlow is imported, in every test process, and the order of the files."""

import os

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

pytest_plugins = ["tests.clips", "tests.processor_seconds"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests of the whole line first, then those with slow ones: two workers then end at about the same
    time."""
    rank: dict[object, int] = {}
    for item in items:
        own = 0 if item.get_closest_marker("e2e") else 1 if item.get_closest_marker("slow") else 2
        rank[item.path] = min(own, rank.get(item.path, 2))
    items.sort(key=lambda item: rank[item.path])
