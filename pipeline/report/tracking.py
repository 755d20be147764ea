"""Gives a run's numbers, learning curves and settings to a tracker of experiments, under the names of the report."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.settings import SettingsError
from pipeline.config import TRACKERS, Config

if TYPE_CHECKING:
    from pipeline.report.facts import Facts

FOLDER = "tracking"  # in the work folder
# Settings that say where something is rather than what is learned, at any depth; a tracker's folder may be shared.
PLACES = {"work_dir", "path", "exposures", "media_root", "media_roots", "ground_truth", "beam", "gateway", "deploy"}
Value = bool | int | float | str


class Point(NamedTuple):
    """One value under a name."""

    name: str
    step: int  # the epoch of a learning curve, else 0
    value: float


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is given of a run."""

    experiment: str  # name of the configuration
    run_id: str
    started_at: datetime
    seconds: float
    points: list[Point]
    settings: dict[str, Value]  # by dotted name


def check(tracker: str) -> None:
    """Raises SettingsError where the library of a tracker is not installed."""
    if tracker and not importlib.util.find_spec(TRACKERS[tracker]):
        raise SettingsError(
            f"tracking: {tracker} needs the extra `tracking`, which is not installed; in the project's folder run: "
            "uv pip install --python .venv/bin/python -r pyproject.toml --extra tracking -c requirements.lock"
        )


def track(config: Config, facts: Facts) -> Path | None:
    """Write what is known of a run for the tracker of the configuration; what was written of the same run goes.

    Returns the run's folder, None without a tracker. Raises SettingsError as `check` does.
    """
    if not config.tracking:
        return None
    check(config.tracking)
    run = TrackedRun(
        config.name,
        facts.run.run_id,
        facts.run.started_at,
        facts.run.seconds,
        list(points(facts)),
        dict(settings(asdict(config))),
    )
    return WRITERS[config.tracking](config.work_path / FOLDER, run)


def points(facts: Facts) -> Iterator[Point]:
    """The numbers of a run, and its learning curves as `curves/trainer/name`."""
    from pipeline.report.facts import numbers  # TensorFlow: seconds

    for name, value in numbers(facts).items():
        yield Point(name, 0, value)
    for curve in facts.curves:
        for epoch, value in zip(curve.epochs, curve.values):
            yield Point(f"curves/{curve.trainer}/{curve.name}", epoch, value)


def settings(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """The settings of a configuration by dotted name, without places and what is unset; lists of values as text."""
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if key in PLACES or value is None or value in ("", (), {}):
            continue
        if isinstance(value, Mapping):
            yield from settings(value, f"{name}.")
        elif isinstance(value, (tuple, list)) and isinstance(value[0], Mapping):
            for number, each in enumerate(value):
                yield from settings(each, f"{name}.{number}.")
        else:
            yield name, value if isinstance(value, Value) else ", ".join(map(str, value))


def _to_tensorboard(root: Path, run: TrackedRun) -> Path:
    """A TensorBoard run: `tensorboard --logdir` of the folder above sets all runs side by side."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    folder = root / "tensorboard" / run.run_id
    for stale in folder.glob("events.out.tfevents.*"):
        stale.unlink()
    with tf.summary.create_file_writer(str(folder)).as_default():
        hparams.hparams(run.settings, trial_id=run.run_id)
        for point in run.points:
            tf.summary.scalar(point.name, point.value, point.step)
        tf.summary.flush()
    return folder


def _to_mlflow(root: Path, run: TrackedRun) -> Path:
    """A run in MLflow's file store: experiment by the configuration's name, run by ours; no server, no usage data."""
    store = root / "mlflow"
    with _environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_ALLOW_FILE_STORE="true"):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        client = MlflowClient(tracking_uri=store.as_uri())
        known = client.get_experiment_by_name(run.experiment)
        experiment = known.experiment_id if known else client.create_experiment(run.experiment)
        started_ms = int(run.started_at.timestamp() * 1000)
        ended_ms = started_ms + int(run.seconds * 1000)
        for stale in client.search_runs([experiment], f"attributes.run_name = '{run.run_id}'"):
            shutil.rmtree(store / experiment / stale.info.run_id)  # its own deletion keeps the files
        made = client.create_run(experiment, start_time=started_ms, run_name=run.run_id).info.run_id
        metrics = [Metric(mlflow_name(point.name), point.value, ended_ms, point.step) for point in run.points]
        params = [Param(mlflow_name(name), str(value)) for name, value in run.settings.items()]
        client.log_batch(made, metrics=metrics, params=params)
        client.set_terminated(made, end_time=ended_ms)
    return store / experiment / made


def mlflow_name(name: str) -> str:
    """A name as MLflow takes it: `@` is `_at_`, another character that it refuses its hexadecimal code in colons."""
    return re.sub(r"[^\w/.\- :]", lambda found: f":{ord(found[0]):x}:", name.replace("@", "_at_"))


def _to_wandb(root: Path, run: TrackedRun) -> Path:
    """An offline run of Weights & Biases, which `wandb sync` of its folder would upload; nothing leaves the machine.

    Of the machine, its programs and this repository nothing is recorded. The library's process ends with the call.
    """
    root.mkdir(parents=True, exist_ok=True)
    folders = f"offline-run-*-{run.run_id}"
    for stale in (root / "wandb").glob(folders):
        shutil.rmtree(stale)
    with (
        tempfile.TemporaryDirectory(dir=root) as other,
        _environment(
            WANDB_ERROR_REPORTING="false",
            **{f"WANDB_{kind}_DIR": other for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT")},
        ),
    ):
        import wandb

        silent = wandb.Settings(
            silent=True,
            console="off",
            host="",
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        try:
            with wandb.init(
                project=run.experiment,
                id=run.run_id,
                name=run.run_id,
                dir=root,
                mode="offline",
                config=run.settings,
                settings=silent,
            ) as offline:
                in_order = sorted(run.points, key=attrgetter("step"))
                for step, at_step in groupby(in_order, attrgetter("step")):
                    offline.log({point.name: point.value for point in at_step}, step=step)
        finally:
            wandb.teardown()
    (folder,) = (root / "wandb").glob(folders)
    return folder


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables of this process's environment set for a while: the libraries read some of theirs nowhere else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


WRITERS: dict[str, Callable[[Path, TrackedRun], Path]] = {
    "tensorboard": _to_tensorboard,
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
}
