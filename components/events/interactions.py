"""A user's events become interactions by the rules of their kinds. Standard library only, so that every room may use
it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from components.config import EventRule


class Event(NamedTuple):
    """One event of a user; `time_s` is None for all events of a table or for none."""

    item_id: str
    event: str
    value: float | None = None
    time_s: int | None = None
    split: str | None = None


class Happened(Protocol):
    """What an interaction is made of; an `Event` has it, and so may another record."""

    @property
    def item_id(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def time_s(self) -> int | None: ...


class Interaction(NamedTuple):
    """A visit of a user to an item."""

    item_id: str
    event: str
    value: float | None
    time_s: int | None
    weight: float
    positive: bool


def interactions_of(events: Iterable[Happened], rules: Mapping[str, EventRule]) -> list[Interaction]:
    """The interactions behind a user's events, oldest first.

    Consecutive events on one item are one visit: the strongest event (by its rule's weight) names the interaction and
    gives its value, and its time is that of its last event, so that nothing in it is later than its own time.
    """
    by_item = itertools.groupby(events, key=lambda event: event.item_id)
    return [_interaction(item_id, list(visit), rules) for item_id, visit in by_item]


def _interaction(item_id: str, events: list[Happened], rules: Mapping[str, EventRule]) -> Interaction:
    # Of equally strong events the later one speaks: a changed rating replaces the first.
    strongest = events[-1]
    for event in reversed(events[:-1]):
        if rules[event.event].weight > rules[strongest.event].weight:
            strongest = event
    rule = rules[strongest.event]
    return Interaction(
        item_id, strongest.event, strongest.value, events[-1].time_s, rule.weight, rule.is_positive(strongest.value)
    )
