"""What a differentially private training guarantees, beside the model that it made."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from trainer.keras import tf

REPORT_FILE = "assets.extra/privacy.json"  # in the folder of the SavedModel


@dataclass(frozen=True)
class PrivacyReport:
    """What a private training guarantees, and by what."""

    epsilon: float  # that the steps taken have spent, at most the configured one
    delta: float
    noise_multiplier: float  # standard deviation of the noise on a step's sum, in units of `clip`
    clip: float
    sampling_rate: float  # chance that a person is in a step
    steps: int
    people: int


def write_report(report: PrivacyReport, model_dir: str) -> None:
    """Writes what a training guarantees beside its SavedModel, as JSON; an infinite epsilon is null."""
    facts = asdict(report) | {"epsilon": report.epsilon if math.isfinite(report.epsilon) else None}
    tf.io.gfile.makedirs(f"{model_dir}/{REPORT_FILE.partition('/')[0]}")
    with tf.io.gfile.GFile(f"{model_dir}/{REPORT_FILE}", "w") as file:
        file.write(json.dumps(facts, sort_keys=True))


def read_report(model_dir: str) -> dict[str, Any] | None:
    """What `write_report` wrote; None for a model that was trained without a guarantee."""
    path = f"{model_dir}/{REPORT_FILE}"
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.loads(file.read())
