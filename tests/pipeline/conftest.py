"""A configuration that is whole, for tests to spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import DataConfig, TableConfig
from pipeline.config import Config
from serving.config import EvaluationConfig


@pytest.fixture
def settings() -> dict[str, Any]:
    """A local configuration."""
    return {
        "name": "tiny",
        "data": {"catalogue": {"path": "items.csv"}, "events": {"path": "events.csv"}},
        "evaluation": {"min_gain_over_popularity": 0.0, "max_loss_to_last": 0.0},
    }


@pytest.fixture
def cloud_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The same for a cluster."""
    return {
        **settings,
        "data": {
            "catalogue": {"path": "gs://b/items.csv"},
            "events": {"path": "gs://b/events.csv"},
            "media_root": "gs://b/media",
        },
        "deploy": {"image": "registry/zhiyin:1", "pipeline_root": "gs://b/root", "serving_root": "gs://b/serving"},
    }


@pytest.fixture
def config_of():
    """The configuration of a work folder with runs."""

    def configuration_of(work_path: Path, name: str = "tiny") -> Config:
        evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
        data = DataConfig(TableConfig("items.csv"), TableConfig("events.csv"))
        return Config(name, data, evaluation, work_dir=str(work_path))

    return configuration_of


@pytest.fixture(scope="session")
def pushed_version(tmp_path_factory) -> Path:
    """A version as the pusher leaves it: items i0 to i11, two rows free; user `known` has had i0 and i3, `other` i1."""
    import tensorflow as tf  # seconds, which other tests here need not wait for

    from serving.export import replay
    from serving.export.saved_model import save
    from tests.serving import tiny

    folder = tmp_path_factory.mktemp("pushed")
    model = tf.saved_model.load(tiny.save_model(folder / "model"))
    views = {"content": tiny.vectors_of(12, seed=8), "behaviour": tiny.vectors_of(12, seed=9)}
    views["behaviour"][11] = 0  # nobody has taken it
    recommender = tiny.recommender(model, num_items=12, insert_capacity=2, views=views)
    signatures = save(recommender, str(folder / "version"))
    asked = {"user_id": tf.constant(["known"]), "k": tf.constant([3])}
    replay.record(str(folder / "version"), replay.in_process(signatures), [("recommend_user", asked)])
    return folder / "version"


@pytest.fixture
def write(tmp_path: Path):
    """Writes settings as YAML and returns the path."""

    def write_settings(settings: dict[str, Any]) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write_settings
