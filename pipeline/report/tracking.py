"""Gives a run's numbers and learning curves to a tracker of experiments, under the names of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Config
from pipeline.report.facts import Facts, numbers

FOLDER = "tracking"  # in the work folder


class Point(NamedTuple):
    """One value under a name."""

    name: str
    step: int  # the epoch of a learning curve, else 0
    value: float


def track(config: Config, facts: Facts) -> Path | None:
    """Write what is known of a run for the tracker of the configuration; returns the folder, None without a tracker."""
    if not config.tracking:
        return None
    folder = config.work_path / FOLDER / config.tracking / facts.run.run_id
    TRACKERS[config.tracking](folder, list(points(facts)))
    return folder


def points(facts: Facts) -> Iterator[Point]:
    """The numbers of a run, and its learning curves as `curves/trainer/name`."""
    for name, value in numbers(facts).items():
        yield Point(name, 0, value)
    for curve in facts.curves:
        for epoch, value in zip(curve.epochs, curve.values):
            yield Point(f"curves/{curve.trainer}/{curve.name}", epoch, value)


def _to_tensorboard(folder: Path, found: list[Point]) -> None:
    """A TensorBoard run: `tensorboard --logdir` of the folder above sets all runs side by side."""
    import tensorflow as tf

    for stale in folder.glob("events.out.tfevents.*"):
        stale.unlink()
    with tf.summary.create_file_writer(str(folder)).as_default():
        for point in found:
            tf.summary.scalar(point.name, point.value, point.step)
        tf.summary.flush()


TRACKERS: dict[str, Callable[[Path, list[Point]], None]] = {"tensorboard": _to_tensorboard}
