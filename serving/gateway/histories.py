"""A person's stored events as the history that the model takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.config import EventRule
from components.events import interactions
from serving.gateway.model_requests import History
from serving.gateway.records import Event


def history_of(events: Iterable[Event], rules: Mapping[str, EventRule], now_s: int) -> History:
    """The interactions behind the events, as training makes them.

    events: oldest first. rules: kinds without a rule do not count.
    """
    made = interactions.interactions_of((event for event in events if event.event in rules), rules)
    return History(
        tuple(one.item_id for one in made),
        tuple(one.event for one in made),
        tuple(_age_s(one.time_s, now_s) for one in made),
    )


def _age_s(time_s: int | None, now_s: int) -> float:
    """Seconds before the request; 0 = unknown, so what happens this very second is a second old."""
    return 0.0 if time_s is None else float(max(now_s - time_s, 1))
