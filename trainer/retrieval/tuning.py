"""Hyperparameter tuning: Optuna's TPE sampler with median pruning, kept in a file that survives a kill."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState
from tqdm import tqdm

from components.settings import SettingsError
from trainer.config.retrieval import RetrievalConfig
from trainer.config.tuning import Range, TuningConfig, as_type_of, with_settings
from trainer.keras import tf

_FIRST_TRIALS = 4  # drawn before the sampler models, and before any trial is cut short
_FIRST_EPOCHS = 2  # of a trial, in which it is not cut short
_OVER = (TrialState.COMPLETE, TrialState.PRUNED)
_AGAIN = "again"  # marks a trial whose settings were interrupted before

# Settings and callbacks -> the best value of their metric.
Train = Callable[[RetrievalConfig, Sequence[tf.keras.callbacks.Callback]], float]


@dataclass(frozen=True)
class Tuned:
    """The result of a search."""

    best: dict[str, Any]  # setting -> value
    value: float  # of the metric on validation
    start_value: float | None  # of the settings that the search started from
    trials: list[dict[str, Any]]  # number, state, value, seconds, params


def tune(train: Train, config: RetrievalConfig, tuning: TuningConfig, storage: str | None = None) -> Tuned:
    """Tries settings, the configured ones first, until trials or seconds run out; what stands in the storage already
    counts.

    train: may raise what its callbacks raise.
    storage: an SQLite file; None keeps the search in memory.
    Prints a line a trial. Raises ValueError for a space that cannot be and where nobody has anything to find,
    RuntimeError where no trial came to its end.
    """
    space = tuning.space_of(config)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{storage}" if storage else None,
        study_name="retrieval",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_FIRST_TRIALS, n_warmup_steps=_FIRST_EPOCHS),
    )
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials), n_startup_trials=_FIRST_TRIALS)
    start = {name: getattr(config, name) for name in space}
    _take_up(study, start)
    while (number := len(_over(study))) < tuning.trials and (left := tuning.seconds - _seconds(study)) > 0:
        trial = study.ask()
        drawn = {name: as_type_of(name, _draw(trial, name, found)) for name, found in space.items()}
        watch = _Watch(trial, config.metric, time.monotonic() + left if number else float("inf"))
        try:
            value = train(with_settings(config, drawn), [watch])
            if not math.isfinite(value):
                raise ValueError(
                    f"{config.metric}: no user of the eval split has an item to find at this cutoff; "
                    "see retrieval.metric and data.split"
                )
            study.tell(trial, value)
        except (optuna.TrialPruned, SettingsError):  # SettingsError: values that do not go together
            study.tell(trial, state=TrialState.PRUNED)
        tqdm.write(_line(study, trial.number, number + 1, tuning.trials, config.metric), file=sys.stderr)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        raise RuntimeError(f"no trial came to its end within {tuning.seconds:.0f} s; give tuning more seconds")
    return Tuned(
        {name: as_type_of(name, value) for name, value in study.best_params.items()},
        study.best_value,
        next((trial.value for trial in complete if trial.params == start), None),
        [_row(trial) for trial in _over(study)],
    )


class _Watch(tf.keras.callbacks.Callback):
    """Reports each epoch, and prunes a trial below the median of the others or out of time."""

    def __init__(self, trial: optuna.Trial, metric: str, deadline: float):
        super().__init__()
        self._trial, self._metric, self._deadline = trial, metric, deadline

    def on_epoch_end(self, epoch, logs=None):
        self._trial.report(logs[f"val_{self._metric}"], epoch)
        if self._trial.should_prune() or time.monotonic() > self._deadline:
            raise optuna.TrialPruned


def _take_up(study: optuna.Study, start: dict[str, Any]) -> None:
    """Queue the configured settings where the search is new, and once more what was interrupted; what is interrupted
    again may be the cause of it.
    """
    if not study.trials:
        study.enqueue_trial(start)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if _AGAIN in trial.user_attrs:
            tqdm.write(f"  interrupted twice, not tried again: {trial.params}", file=sys.stderr)
        else:
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: True})


def _draw(trial: optuna.Trial, name: str, found: Range) -> Any:
    if found.choices:
        return trial.suggest_categorical(name, found.choices)
    assert found.low is not None and found.high is not None
    if isinstance(as_type_of(name, found.low), int):
        return trial.suggest_int(name, int(found.low), int(found.high), log=found.log)
    return trial.suggest_float(name, found.low, found.high, log=found.log)


def _over(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=_OVER)


def _seconds(study: optuna.Study) -> float:
    return sum(trial.duration.total_seconds() for trial in _over(study) if trial.duration)


def _row(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "seconds": seconds,
        "params": trial.params,
    }


def _line(study: optuna.Study, number: int, count: int, of: int, metric: str) -> str:
    trial = study.trials[number]
    row = _row(trial)
    epochs = len(trial.intermediate_values)
    outcome = f"{metric} {trial.value:.4f}" if trial.state == TrialState.COMPLETE else f"stopped after {epochs} epochs"
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    best = f"best {study.best_value:.4f}, " if complete else ""
    settings = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in trial.params.items()
    )
    return f"  trial {count}/{of}  {outcome}  ({best}{row['seconds']:.0f} s)  {settings}"
