"""Settings of the data: where the tables are, how they are read, and what their events mean. Standard library only."""

from __future__ import annotations

from ctypes import c_float
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Literal


@dataclass(frozen=True)
class TableConfig:
    """One table on disk or in a bucket."""

    path: str  # file, folder or glob; csv, json or parquet, plain or .gz; gs:// through Beam's file systems
    separator: str = ","  # CSV only; "::" and "\t" work too
    quotes: Literal["auto", "double", "none"] = (
        "auto"  # CSV only; double is RFC 4180, none takes a quote as a character
    )
    encoding: str = "utf-8"  # CSV and JSON; a byte order mark is dropped
    columns: dict[str, str] = field(default_factory=dict)  # contract name -> name in the file, where they differ
    timestamp_unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"  # auto: once a table, from its first rows
    earliest_time: str = ""  # ISO date; before it a time is a reject; where empty 1990 for events, 1800 for works
    latest_time: str = ""  # ISO date, the last day; where empty a day from now for events, 2100 for works
    list_separator: str = "|"  # between the values of a list column in CSV
    empty_values: tuple[str, ...] = ("(no genres listed)",)  # cells that say "nothing" besides the empty one
    empty_values_of: dict[str, tuple[str, ...]] = field(default_factory=dict)  # further ones by column

    def __post_init__(self) -> None:
        for name in ("earliest_time", "latest_time"):
            try:
                _ = getattr(self, name) and date.fromisoformat(getattr(self, name))
            except ValueError:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a date such as 1990-01-31") from None


@dataclass(frozen=True)
class EventRule:
    """What one kind of event says about the listener."""

    weight: float = 1.0  # strength as a training example; the strongest of a visit names the interaction
    positive: bool = True  # whether it is a target to be predicted
    positive_from: float | None = None  # with `value`: positive only from this value on (ratings)

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1e6:  # squares of sums of weights are taken in 32 bits
            raise ValueError(f"weight: got {self.weight}, expected a strength from 0 to 1e6")

    def is_positive(self, value: float | None) -> bool:
        """Whether an event of this kind with this value (None where absent) counts as liked.

        Both as float32, in which values are kept: .9 there is less than .9.
        """
        if self.positive_from is None:
            return self.positive
        return self.positive and value is not None and c_float(value).value >= c_float(self.positive_from).value


@dataclass(frozen=True)
class SplitConfig:
    """How events become train, eval and test. `docs/decisions/0004-split.md` says why time is the default."""

    kind: Literal["time", "time_per_user", "user", "given"] = "time"  # docs/decisions/0004-split.md says what each is
    eval_share: float = 0.1  # of events (time, time_per_user) or of users (user)
    test_share: float = 0.1  # likewise

    def __post_init__(self) -> None:
        if not (self.eval_share >= 0 and self.test_share > 0 and self.eval_share + self.test_share < 1):
            raise ValueError(f"shares must leave something to train on: eval {self.eval_share}, test {self.test_share}")


DEFAULT_EVENTS = {
    "play": EventRule(weight=1.0),
    "complete": EventRule(weight=2.0),
    "like": EventRule(weight=3.0),
    "skip": EventRule(weight=0.5, positive=False),
    "rating": EventRule(weight=2.0, positive_from=4.0),
}


@dataclass(frozen=True)
class DataConfig:
    """The tables, their declared columns, and the rules that turn events into interactions."""

    catalogue: TableConfig
    events: TableConfig
    users: TableConfig | None = None
    exposures: str = ""  # lists that were shown: store: reads a service's, else gzipped JSON lines (docs/ranking.md)
    media_root: str = ""  # relative media_uri are resolved against it; no medium outside of it is read
    media_roots: tuple[str, ...] = ()  # further folders and buckets from which media may be read
    numeric: tuple[str, ...] = ()  # declared numeric columns of the catalogue, beside duration_s
    categorical: tuple[str, ...] = ()  # declared categorical columns of the catalogue, beside domain and creator
    embeddings: dict[str, int] = field(default_factory=dict)  # embedding:<name> columns of the catalogue -> dimension
    # Wordpieces of each tuned text encoder; the run fills it in from `encoders`.
    pieces: dict[str, int] = field(default_factory=dict)
    user_numeric: tuple[str, ...] = ()  # declared columns of the users table
    user_categorical: tuple[str, ...] = ()  # likewise, categories
    event_rules: dict[str, EventRule] = field(default_factory=lambda: dict(DEFAULT_EVENTS))
    history_length: int = 100  # most recent interactions that models see of a user: in training, evaluation and answers
    undated_items: Literal["always", "from_first_event"] = (
        "always"  # when an item without published_at can be recommended
    )
    split: SplitConfig = SplitConfig()
    max_reject_share: float = 0.05  # of a table's rows, the media, the encoders' vectors, or events on unknown items

    def __post_init__(self) -> None:
        if not 0 <= self.max_reject_share <= 1:
            raise ValueError(f"max_reject_share: got {self.max_reject_share}, expected a share between 0 and 1")
        if self.history_length < 1:
            raise ValueError(f"history_length: got {self.history_length}, expected at least 1 interaction")
        if not any(rule.positive for rule in self.event_rules.values()):
            raise ValueError("event_rules: no kind of event is positive, so there is nothing to learn from")

    def only(self, *names: str) -> DataConfig:
        """These settings and the defaults of all others: a node's cache key holds what the node depends on."""
        unknown = set(names) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
        nowhere: dict[str, Any] = {"catalogue": TableConfig(path=""), "events": TableConfig(path="")}
        return DataConfig(**nowhere | {name: getattr(self, name) for name in names})
