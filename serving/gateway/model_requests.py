"""What is asked of the model and what it answers, as records and as the tensors of its signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

NONE = -1  # what a served option takes for "none", since 0 leaves it to the operator
N = TypeVar("N", int, float)


def option_of(value: N | None) -> N:
    """A value as the served options take it: None leaves it to the operator, 0 is none."""
    if value is None:
        return 0
    return value or NONE


@dataclass(frozen=True)
class History:
    """Interactions of one person, oldest first."""

    item_ids: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    age_s: tuple[float, ...] = ()  # seconds before the request, 0 where unknown


@dataclass(frozen=True)
class Rules:
    """What may be in a list."""

    exclude: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()  # nothing else; anything where empty
    domain: str = ""  # any where empty
    max_per_creator: int = 0  # 0 = as the operator has configured, NONE = any number
    max_item_age_s: int = 0  # 0 = any age


@dataclass(frozen=True)
class RecommendRequest:
    """One person's request."""

    user_id: str
    k: int
    history: History = History()
    rules: Rules = Rules()
    objective_weights: tuple[float, ...] = ()  # by kind of event in the order of their names; none = as configured
    diversity: float = 0.0  # 0 = as the operator has configured, NONE = none; likewise:
    exploration_rate: float = 0.0
    seed: int = 0
    time_s: int = 0  # 0 = the last event known to the model
    model: str = ""  # the client's where empty
    version_label: str = ""


@dataclass(frozen=True)
class ListAnswer:
    """A ranked list from the model."""

    item_ids: list[str]
    scores: list[float]
    version: int
    probabilities: list[list[float]] = field(default_factory=list)  # by item, by kind of event
    reasons: list[str] = field(default_factory=list)
    is_new_user: bool = False
    is_full_scan: bool = False
    by: str = ""  # of similar items: what orders them


@dataclass(frozen=True)
class ExplainAnswer:
    """What one item's score is made of."""

    score: float
    utility: float
    history: list[tuple[str, float]]  # item of the history -> what it adds to the score
    history_rest: float
    fields: list[tuple[str, float]]  # field of the ranker -> what it adds to the utility
    field_rest: float
    version: int


def texts(values: Sequence[str]) -> np.ndarray:
    """[N] as the served strings are: bytes objects."""
    array = np.empty(len(values), object)
    array[:] = [value.encode() for value in values]
    return array


def rows_of(lists: Sequence[Sequence[str]]) -> np.ndarray:
    """[B, longest], "" behind a shorter list's end: no item and no event has that name."""
    array = np.full((len(lists), max(map(len, lists))), b"", object)
    for row, values in zip(array, lists):
        row[: len(values)] = [value.encode() for value in values]
    return array


def of_people(user_ids: Sequence[str], histories: Sequence[History]) -> dict[str, np.ndarray]:
    """Inputs of the signatures that answer for people, a row for each."""
    item_ids = rows_of([history.item_ids for history in histories])
    age_s = np.zeros(item_ids.shape, np.float32)
    for row, history in zip(age_s, histories):
        row[: len(history.age_s)] = history.age_s
    return {
        "user_id": texts(user_ids),
        "history_ids": item_ids,
        "history_events": rows_of([history.events for history in histories]),
        "history_age_s": age_s,
    }


def of_lists(rules: Sequence[Rules], k: Sequence[int], time_s: Sequence[int]) -> dict[str, np.ndarray]:
    """Inputs of the signatures that answer with lists, a row for each."""
    return {
        "exclude_ids": rows_of([one.exclude for one in rules]),
        "allow_ids": rows_of([one.allow for one in rules]),
        "domain": texts([one.domain for one in rules]),
        "k": np.array(k, np.int32),
        "max_per_creator": np.array([one.max_per_creator for one in rules], np.int32),
        "max_item_age_s": np.array([one.max_item_age_s for one in rules], np.int64),
        "time_s": np.array(time_s, np.int64),
    }


def of_requests(requests: Sequence[RecommendRequest]) -> dict[str, np.ndarray]:
    """Inputs of `recommend`, a row for each."""
    return {
        **of_people([one.user_id for one in requests], [one.history for one in requests]),
        **of_lists([one.rules for one in requests], [one.k for one in requests], [one.time_s for one in requests]),
        "objective_weights": np.array([one.objective_weights for one in requests], np.float32),
        "diversity": np.array([one.diversity for one in requests], np.float32),
        "explore_share": np.array([one.exploration_rate for one in requests], np.float32),
        "seed": np.array([one.seed for one in requests], np.int32),
    }


def list_in(outputs: Mapping[str, np.ndarray], row: int, version: int) -> dict[str, Any]:
    """The fields of a `ListAnswer` that every list has."""
    count = int(outputs["count"][row])
    return {
        "item_ids": [item.decode() for item in outputs["item_ids"][row, :count]],
        "scores": outputs["scores"][row, :count].tolist(),
        "version": version,
    }


def recommended_in(outputs: Mapping[str, np.ndarray], row: int, version: int) -> ListAnswer:
    """The answer of `recommend` in one row of its outputs."""
    count = int(outputs["count"][row])
    return ListAnswer(
        **list_in(outputs, row, version),
        probabilities=outputs["probabilities"][row, :count].tolist(),
        reasons=[reason.decode() for reason in outputs["reasons"][row, :count]],
        is_new_user=bool(outputs["fallback"][row]),
        is_full_scan=bool(outputs["widened"][row]),
    )
