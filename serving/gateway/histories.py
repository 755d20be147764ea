"""A person's stored events as the history that the model takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from components.config import EventRule
from serving.gateway.model_client import History
from serving.gateway.records import Event


def history_of(events: Iterable[Event], rules: Mapping[str, EventRule], now_s: int) -> History:
    """Consecutive events on one item are one interaction, as in training: named by the strongest, dated by the last.

    events: oldest first. rules: kinds without a rule do not count.
    """
    known = (event for event in events if event.event in rules)
    visits = [list(visit) for _, visit in itertools.groupby(known, key=lambda event: event.item_id)]
    strongest = [max(reversed(visit), key=lambda event: rules[event.event].weight) for visit in visits]
    return History(
        tuple(visit[-1].item_id for visit in visits),
        tuple(event.event for event in strongest),
        tuple(_age_s(visit[-1].time_s, now_s) for visit in visits),
    )


def _age_s(time_s: int | None, now_s: int) -> float:
    """Seconds before the request; 0 = unknown, so what happens this very second is a second old."""
    return 0.0 if time_s is None else float(max(now_s - time_s, 1))
