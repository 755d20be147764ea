"""Blessing: a model may be published that beats popularity and is not worse than the last that was blessed.

That is the bar even where the last one was never pushed, as when the model server answered otherwise than recorded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace

from tensorflow.io import gfile

from serving.config import EvaluationConfig
from trainer.evaluation.metrics import Interval

_RECORD = "last_blessed.json"


class ComparisonError(RuntimeError):
    """The last blessed model is there and cannot be judged on the present data."""


@dataclass(frozen=True)
class LastBlessed:
    """The last blessed model, what it scored, and on what."""

    model: str  # folder of its SavedModel; empty where it was purged
    metric: str
    value: float | None  # None where the model is gone and what it scored is on other data
    data: str  # digest of the evaluation data

    def on(self, data: str, metric: str, judge: Callable[[str], float]) -> LastBlessed:
        """The same with its value by this metric on this data, by `judge` of its folder where that is not the recorded
        one.

        Without a value where the model is gone. Raises ComparisonError where judging it fails: nothing is blessed
        unseen.
        """
        if (self.data, self.metric) == (data, metric):
            return self
        if not self.model or not gfile.exists(f"{self.model}/saved_model.pb"):
            return LastBlessed(self.model, metric, None, data)
        try:
            return LastBlessed(self.model, metric, judge(self.model), data)
        except Exception as error:
            raise ComparisonError(
                f"the last blessed model {self.model} cannot be judged on the present data ({_first_line(error)}); "
                f"to publish without a comparison, remove {_RECORD} from the folder of blessed models"
            ) from error


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

    value, popularity: the metric's means. gain: value minus popularity with its interval. last: judged on the same
    data. An undefined number blesses nothing.
    """
    assert config.min_gain_over_popularity is not None and config.max_loss_to_last is not None, (
        "EvaluationConfig refuses this"
    )
    metric = config.metric
    facts = [
        f"{metric} {value:.4f}, popularity {popularity:.4f} "
        f"(gain {gain.value:+.4f}, 95 % {gain.low:+.4f} to {gain.high:+.4f})"
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
        place = f" at {last.model}" if last.model else ""
        facts.append(f"the last blessed model{place} cannot be compared with: it is gone")
    else:
        facts.append(f"last blessed {last.value:.4f}")
        if not last.value - value <= config.max_loss_to_last:  # an undefined number blesses nothing
            problems.append(f"is worse than the last blessed model by more than {config.max_loss_to_last:g}")
    reason = "; ".join([("not blessed: " + " and ".join(problems)) if problems else "blessed", *facts])
    return Decision(not problems, reason, metric, value, popularity, last.value if last else None)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def read_last(folder: str) -> LastBlessed | None:
    """What `write_last` left, None where nothing was blessed yet."""
    path = f"{folder}/{_RECORD}"
    if not gfile.exists(path):
        return None
    record = json.loads(gfile.GFile(path).read())
    return LastBlessed(**{field.name: record[field.name] for field in fields(LastBlessed)})


def write_last(folder: str, model: str, metric: str, value: float, data: str) -> None:
    """Remember a blessed model, at once or not at all."""
    gfile.makedirs(folder)
    _write(folder, LastBlessed(model, metric, value, data))


def mark_gone(folder: str) -> None:
    """Note that the last blessed model is removed, before it is: a later one may get the name of its folder."""
    if last := read_last(folder):
        _write(folder, replace(last, model=""))


def _write(folder: str, last: LastBlessed) -> None:
    path = f"{folder}/{_RECORD}"
    with gfile.GFile(f"{path}.incoming", "w") as file:
        file.write(json.dumps(asdict(last), indent=1))
    gfile.rename(f"{path}.incoming", path, overwrite=True)
