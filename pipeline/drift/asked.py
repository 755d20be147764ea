"""What a version was asked in serving, from the gateway's store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from components.config import EventRule
from pipeline.drift.requests import Request
from serving.gateway.histories import history_of
from serving.gateway.records import Event, Exposure
from serving.gateway.stores.base import EVENTS_AT_ONCE, Store

MOST_PEOPLE = 5000  # that are looked at


async def exposures_of(store: Store, version: int) -> list[Exposure]:
    """The last list of each person that a version answered, each list of a session; a sample where there are many."""
    last: dict[str, Exposure] = {}
    async for shown in store.exposures():
        if shown.model_version == version:
            last[f"user {shown.user_id}" if shown.user_id else shown.request_id] = shown
    return [last[name] for name in sorted(last, key=_digest)[:MOST_PEOPLE]]


def _digest(name: str) -> bytes:
    """Sorts names in an order that has nothing to do with them."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


async def asked_requests(
    store: Store, exposures: Iterable[Exposure], rules: Mapping[str, EventRule], history_events: int
) -> list[Request]:
    """The questions behind some lists, each with the history that the gateway sent: the person's events until then.

    rules: kinds without a rule do not count. history_events: of the person's events the most recent so many were sent.
    """
    found = []
    for shown in exposures:
        if not shown.user_id:
            found.append(Request(None, (), (), shown.item_ids))
            continue
        events = await _events_before(store, shown)
        history = history_of(events[-history_events:], rules, shown.time_s)
        found.append(Request(history.item_ids, history.events, history.age_s, shown.item_ids))
    return found


async def _events_before(store: Store, shown: Exposure) -> list[Event]:
    """Without those that follow from the list itself, oldest first, those without a time before all."""
    numbered: list[tuple[int, Event]] = []
    after = 0
    while page := await store.user_events(shown.user_id, after, EVENTS_AT_ONCE):
        numbered += page
        after = page[-1][0]
    before = [
        (event.time_s is not None, event.time_s or 0, number, event)
        for number, event in numbered
        if (event.time_s or 0) <= shown.time_s and event.request_id != shown.request_id
    ]
    return [event for *_, event in sorted(before, key=lambda row: row[:3])]
