"""Events: what people did."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from serving.gateway.judging import Arrival, judged, refused, user_id_of
from serving.gateway.problems import responses
from serving.gateway.records import Acceptance, Event
from serving.gateway.routes.dependencies import COMMON_ERRORS, ServiceOf, permitted
from serving.gateway.schemas import EventBatch, EventIn, EventOutcome, EventsAccepted

router = APIRouter(prefix="/v1", tags=["events"], responses=responses(*COMMON_ERRORS))


@router.post("/events", dependencies=permitted("write"), operation_id="add_events")
async def add_events(body: EventBatch | EventIn, service: ServiceOf) -> EventsAccepted:
    """Append one event or a batch. What is accepted is durable, and counts in the person's next request."""
    given: list[Any] = body.events if isinstance(body, EventBatch) else [body]
    kinds, arrival = service.settings.data.event_rules, Arrival.now()
    found = [judged(one, kinds, service.pseudonyms, arrival) for one in given]
    events = [one for one in found if isinstance(one, Event)]
    marks = [service.marks(user_id_of(one)) for one, event in zip(given, found) if isinstance(event, Event)]
    done = await service.durably(service.store.add_events(events, marks)) if events else []
    became = iter(done)
    outcomes = [one if isinstance(one, EventOutcome) else _outcome(one, next(became)) for one in found]
    counts = {status: sum(one.status == status for one in outcomes) for status in ("accepted", "duplicate", "refused")}
    for status, count in counts.items():
        service.metrics.events.labels(status).inc(count)
    return EventsAccepted(
        accepted=counts["accepted"], duplicates=counts["duplicate"], refused=counts["refused"], outcomes=outcomes
    )


def _outcome(event: Event, became: Acceptance) -> EventOutcome:
    if became is Acceptance.FORGOTTEN:
        return refused("user_id", "this person has asked to be forgotten", event.event_id)
    return EventOutcome(status=became.value, event_id=event.event_id)
