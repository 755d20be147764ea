"""Settings of hyperparameter tuning. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.settings import from_mapping
from trainer.config.retrieval import RetrievalConfig

_UNSEEN = (  # not used in trials
    "modalities", "use_attributes", "modality_dropout", "encoder", "tag_loss_weight", "adversary", "use_user_features",
    "use_user_id", "user_id_dropout",
)  # fmt: skip
_FIXED = ("metric", "seed")  # trials with other values of these cannot be compared


@dataclass(frozen=True)
class Range:
    """The values that one setting may take: from `low` to `high`, or one of `choices`."""

    low: float | None = None  # of an interval
    high: float | None = None  # likewise
    log: bool = False  # draw evenly over the magnitudes
    choices: tuple[Any, ...] = ()  # instead of an interval

    def __post_init__(self) -> None:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("expected either low and high, or choices")
        if not self.choices and (self.low is None or self.high is None or not self.low < self.high):
            raise ValueError(f"got low {self.low} and high {self.high}, expected two numbers, the lower first")
        if self.log and not (self.low or 0) > 0:
            raise ValueError(f"log: got low {self.low}, expected a number above 0")

    def including(self, value: Any) -> Range:
        """The range extended by a value, where it can hold it."""
        if self.choices:
            return self if value in self.choices else dataclasses.replace(self, choices=(*self.choices, value))
        assert self.low is not None and self.high is not None
        if self.log and value <= 0:
            return self
        return dataclasses.replace(self, low=min(self.low, value), high=max(self.high, value))


@dataclass(frozen=True)
class TuningConfig:
    """The budget of a search, and its space."""

    trials: int = 20  # trainings, those that are cut short included
    seconds: float = 1800.0  # of all trials together, those before an interruption included
    space: dict[str, Range] = field(default_factory=dict)  # setting of `retrieval` -> its range; default_space if empty

    def __post_init__(self) -> None:
        if self.trials < 1 or not self.seconds > 0:
            raise ValueError(f"got {self.trials} trials in {self.seconds} seconds, expected at least one of each")

    def space_of(self, config: RetrievalConfig) -> dict[str, Range]:
        """The ranges to search, extended by the configured values.

        Raises ValueError for a setting that is not there or cannot take a value of its range.
        """
        space = {}
        for name, found in (self.space or default_space(config)).items():
            if name in (*_UNSEEN, *_FIXED) or name.startswith("content_"):
                raise ValueError(
                    f"space: {name} cannot be tuned; trials train on interactions alone and are judged by one metric"
                )
            for value in found.choices or (found.low, found.high):
                with_settings(config, {name: as_type_of(name, value)})
            space[name] = found.including(getattr(config, name))
        return space


def default_space(config: RetrievalConfig) -> dict[str, Range]:
    """The ranges that are searched where none are configured, by user tower and loss."""
    space = {
        "embedding_dim": Range(choices=(32, 64, 128, 256)),
        "learning_rate": Range(low=1e-3, high=3e-2, log=True),
        "batch_size": Range(choices=(64, 128, 256, 512)),
        "weight_decay": Range(low=1e-5, high=1e-1, log=True),
    }
    if config.loss == "profile_cosine":
        space |= {"history_dropout": Range(low=0.1, high=0.8), "score_exponent": Range(low=0.7, high=2.0)}
    else:
        space["temperature"] = Range(low=0.03, high=0.3, log=True)
    if config.user_tower == "sequence":
        space |= {"sequence_layers": Range(low=1, high=3), "dropout": Range(low=0.0, high=0.5)}
    return space


def with_settings(config: RetrievalConfig, values: Mapping[str, Any]) -> RetrievalConfig:
    """The configuration with some settings replaced. Raises SettingsError where one is unknown or cannot be."""
    return from_mapping(RetrievalConfig, {**dataclasses.asdict(config), **values})


def as_type_of(name: str, value: Any) -> Any:
    """A drawn value in the setting's own type: an int where that is one."""
    is_whole = type(getattr(RetrievalConfig(), name, None)) is int
    return int(value) if is_whole and isinstance(value, float) else value
