"""What a tracker is given is what the report says, read back by the tracker's own library."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from pipeline.config import TRACKERS, Config
from pipeline.report import tracking
from pipeline.report.facts import Facts, numbers


def read_back(folder: Path) -> list[tuple[str, int, float]]:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return [
        (tag, point.step, float(make_ndarray(point.tensor_proto)))
        for tag in events.Tags()["tensors"]
        for point in events.Tensors(tag)
    ]


def test_tensorboard_reads_the_numbers_and_the_curves(config: Config, facts: Facts, tmp_path: Path) -> None:
    config = dataclasses.replace(config, tracking="tensorboard", work_dir=str(tmp_path))
    for _ in range(2):  # a report that is written again adds nothing
        folder = tracking.track(config, facts)
    found = read_back(folder)
    assert folder.name == facts.run.run_id
    assert {name: value for name, step, value in found if not step} == pytest.approx(numbers(facts))
    curve = [(step, value) for name, step, value in found if name == "curves/Retrieval/content validation error"]
    assert curve == [(1, pytest.approx(0.9)), (2, pytest.approx(0.5)), (3, pytest.approx(0.6))]


def test_without_a_tracker_nothing_is_written(config: Config, facts: Facts, tmp_path: Path) -> None:
    assert tracking.track(dataclasses.replace(config, work_dir=str(tmp_path)), facts) is None
    assert not list(tmp_path.iterdir())


def test_the_configuration_names_the_trackers_that_there_are(config: Config) -> None:
    assert set(TRACKERS) == set(tracking.TRACKERS)
    with pytest.raises(ValueError, match="expected tensorboard or nothing"):
        dataclasses.replace(config, tracking="paper")
