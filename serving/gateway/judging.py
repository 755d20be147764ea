"""Judges what somebody says as an event: the event as it is kept, or where its fault is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from serving.gateway.records import Event
from serving.gateway.schemas import EventIn, EventOutcome

FUTURE_S = 86_400  # how far ahead another's clock may be


@dataclass(frozen=True)
class Arrival:
    """What an event gets that does not say it itself."""

    time_s: int | None  # seconds since 1970; None: it is kept without a time
    event_id: Callable[[], str] = lambda: uuid.uuid4().hex

    @classmethod
    def now(cls) -> Arrival:
        """It has happened at this moment, and its id is made."""
        return cls(int(time.time()))


def judged(given: Any, kinds: Collection[str], kept_as: Callable[[str], str], arrival: Arrival) -> Event | EventOutcome:
    """The event as it is kept, or why it is refused.

    given: an `EventIn`, or anything that JSON can say.
    kinds: of events, those that the event rules name.
    kept_as: a person's id as it is given -> as it is kept.
    """
    try:
        one = given if isinstance(given, EventIn) else EventIn.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        return refused(".".join(map(str, first["loc"])) or "event", first["msg"])
    if one.event not in kinds:
        return refused("event", f"no event rule for this kind, expected one of {', '.join(kinds)}", one.event_id)
    time_s = arrival.time_s if one.timestamp is None else int(one.timestamp)  # type: ignore[arg-type]
    if time_s is not None and time_s > int(time.time()) + FUTURE_S:
        return refused("timestamp", "is more than a day ahead", one.event_id)
    return Event(
        event_id=one.event_id or arrival.event_id(),
        user_id=kept_as(one.user_id),
        item_id=one.item_id,
        event=one.event,
        time_s=time_s,
        value=one.value,
        request_id=one.request_id or "",
    )


def user_id_of(given: Any) -> str:
    """Whose event it is, as it is given. given: what was judged to be an event."""
    return given.user_id if isinstance(given, EventIn) else str(given["user_id"])


def refused(field: str, reason: str, event_id: str | None = None) -> EventOutcome:
    """What became of an event with a fault in a field."""
    return EventOutcome(status="refused", event_id=event_id, field=field, reason=reason)
