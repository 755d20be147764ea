"""Events: what people did."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError

from serving.gateway.privacy import deciding_tombstones
from serving.gateway.problems import responses
from serving.gateway.records import Acceptance, Event
from serving.gateway.routes.dependencies import COMMON_ERRORS, ServiceOf, permitted
from serving.gateway.schemas import EventBatch, EventIn, EventOutcome, EventsAccepted
from serving.gateway.service import Service

router = APIRouter(prefix="/v1", tags=["events"], responses=responses(*COMMON_ERRORS))
FUTURE_S = 86_400  # how far ahead a client's clock may be


@router.post("/events", dependencies=permitted("write"), operation_id="add_events")
async def add_events(body: EventBatch | EventIn, service: ServiceOf) -> EventsAccepted:
    """Append one event or a batch. What is accepted is durable, and counts in the person's next request."""
    given: list[Any] = body.events if isinstance(body, EventBatch) else [body]
    judged = [_judged(one, service) for one in given]
    events = [one for one in judged if isinstance(one, Event)]
    whose = [_user_id(one) for one, event in zip(given, judged) if isinstance(event, Event)]
    tombstones = await service.read(deciding_tombstones(service.store, service.tombstones, service.pseudonyms, whose))
    done = await service.durably(service.store.add_events(events, tombstones)) if events else []
    became = iter(done)
    outcomes = [one if isinstance(one, EventOutcome) else _outcome(one, next(became)) for one in judged]
    counts = {status: sum(one.status == status for one in outcomes) for status in ("accepted", "duplicate", "refused")}
    for status, count in counts.items():
        service.metrics.events.labels(status).inc(count)
    return EventsAccepted(
        accepted=counts["accepted"], duplicates=counts["duplicate"], refused=counts["refused"], outcomes=outcomes
    )


def _user_id(given: Any) -> str:
    """Whose event it is, as the application says it. given: that was accepted."""
    return given.user_id if isinstance(given, EventIn) else str(given["user_id"])


def _judged(given: Any, service: Service) -> Event | EventOutcome:
    """The event as it is kept, or why it is refused."""
    try:
        one = given if isinstance(given, EventIn) else EventIn.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        return _refused(".".join(map(str, first["loc"])) or "event", first["msg"])
    kinds, now_s = service.settings.data.event_rules, int(time.time())
    if one.event not in kinds:
        return _refused("event", f"no event rule for this kind, expected one of {', '.join(kinds)}", one.event_id)
    time_s = now_s if one.timestamp is None else int(one.timestamp)  # type: ignore[arg-type]
    if time_s > now_s + FUTURE_S:
        return _refused("timestamp", "is more than a day ahead", one.event_id)
    return Event(
        event_id=one.event_id or uuid.uuid4().hex,
        user_id=service.pseudonyms(one.user_id),
        item_id=one.item_id,
        event=one.event,
        time_s=time_s,
        value=one.value,
        request_id=one.request_id or "",
    )


def _refused(field: str, reason: str, event_id: str | None = None) -> EventOutcome:
    return EventOutcome(status="refused", event_id=event_id, field=field, reason=reason)


def _outcome(event: Event, became: Acceptance) -> EventOutcome:
    if became is Acceptance.FORGOTTEN:
        return _refused("user_id", "this person has asked to be forgotten", event.event_id)
    return EventOutcome(status=became.value, event_id=event.event_id)
