"""Whether a model may be published: above popularity, and not worse than the last one that was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import tensorflow as tf
from tensorflow.io import gfile

from serving.config import EvaluationConfig
from trainer.evaluation.metrics import Interval

_RECORD = "last_blessed.json"


@dataclass(frozen=True)
class LastBlessed:
    """The last blessed model, what it scored, and on what."""

    model: str  # folder of its SavedModel
    metric: str
    value: float | None  # None where it could not be judged on the present data
    data: str  # digest of the evaluation data
    problem: str = ""  # why there is no value

    def again(self, judge: Callable[[str], float]) -> LastBlessed:
        """The same with the value on the present data, by `judge` of its folder; without one where the model cannot be used any more."""
        try:
            return replace(self, value=judge(self.model))
        except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            return replace(self, value=None, problem=str(error).strip().partition("\n")[0])


@dataclass(frozen=True)
class Decision:
    """Blessed or not, and why, with the numbers."""

    blessed: bool
    reason: str
    metric: str
    value: float
    popularity: float
    last: float | None


def decide(
    value: float, popularity: float, gain: Interval, last: LastBlessed | None, config: EvaluationConfig
) -> Decision:
    """Compare the model's number with popularity's and with the last blessed model's.

    value, popularity: the metric's means. gain: value minus popularity with its interval. last: judged on the same data.
    An undefined number blesses nothing.
    """
    assert config.min_gain_over_popularity is not None and config.max_loss_to_last is not None, (
        "EvaluationConfig refuses this"
    )
    metric = config.metric
    facts = [
        f"{metric} {value:.4f}, popularity {popularity:.4f} (gain {gain.value:+.4f}, 95 % {gain.low:+.4f} to {gain.high:+.4f})"
    ]
    problems = []
    if math.isnan(value) or math.isnan(popularity):
        problems.append(
            "cannot judge: the number is undefined, with nobody to judge by or a list as long as the catalogue"
        )
    elif value - popularity <= config.min_gain_over_popularity:
        problems.append(f"must be above popularity by more than {config.min_gain_over_popularity:g}")
    if last is None:
        facts.append("no model was blessed before")
    elif last.value is None:
        facts.append(f"the last blessed model at {last.model} cannot be compared with: {last.problem}")
    else:
        facts.append(f"last blessed {last.value:.4f}")
        if last.value - value > config.max_loss_to_last:
            problems.append(f"is worse than the last blessed model by more than {config.max_loss_to_last:g}")
    reason = "; ".join([("not blessed: " + " and ".join(problems)) if problems else "blessed", *facts])
    return Decision(not problems, reason, metric, value, popularity, last.value if last else None)


def read_last(folder: str) -> LastBlessed | None:
    """What `write_last` left, None where nothing was blessed yet."""
    path = f"{folder}/{_RECORD}"
    return LastBlessed(**json.loads(gfile.GFile(path).read())) if gfile.exists(path) else None


def write_last(folder: str, model: str, metric: str, value: float, data: str) -> None:
    """Remember a blessed model, at once or not at all."""
    gfile.makedirs(folder)
    path = f"{folder}/{_RECORD}"
    with gfile.GFile(f"{path}.incoming", "w") as file:
        file.write(json.dumps(asdict(LastBlessed(model, metric, value, data)), indent=1))
    gfile.rename(f"{path}.incoming", path, overwrite=True)
