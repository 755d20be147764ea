"""People: what they declare, what is held of them, and forgetting."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from serving.gateway.problems import Problem, invalid, not_found, responses
from serving.gateway.records import Event, Exposure
from serving.gateway.routes.dependencies import COMMON_ERRORS, ServiceOf, UserId, permitted
from serving.gateway.schemas import EventOut, ExposureOut, Forgotten, UserData, UserIn

router = APIRouter(prefix="/v1", tags=["users"], responses=responses(*COMMON_ERRORS))


@router.put(
    "/users/{user_id}",
    dependencies=permitted("write"),
    status_code=204,
    response_class=Response,
    responses=responses(409),
    operation_id="put_user",
)
async def put_user(user_id: UserId, body: UserIn, service: ServiceOf) -> Response:
    """Set the declared features of a person; the next run learns from them."""
    for group, kind, names in (("numeric", "number", body.numeric), ("categorical", "category", body.categorical)):
        for name in names:
            if service.user_columns.get(name) != kind:
                raise invalid(f"body.{group}", f"the users table has no {kind} column {name!r}")
    fields, marks = {**body.numeric, **body.categorical}, service.marks(user_id)
    if not await service.durably(service.store.put_user(service.pseudonyms(user_id), fields, marks)):
        raise Problem(409, "forgotten", "this person has asked to be forgotten")
    return Response(status_code=204)


@router.get(
    "/users/{user_id}/data", dependencies=permitted("admin"), responses=responses(404), operation_id="user_data"
)
async def user_data(
    user_id: UserId,
    service: ServiceOf,
    cursor: Annotated[str, Query(pattern=r"^\d{1,18}$", description="next_cursor of the page before")] = "0",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> UserData:
    """Everything that is held of a person."""
    kept_as, store = service.pseudonyms(user_id), service.store
    events = await service.read(store.user_events(kept_as, int(cursor), limit))
    is_first = cursor == "0"
    features = await service.read(store.get_user(kept_as)) if is_first else None
    shown = await service.read(store.user_exposures(kept_as)) if is_first else []
    if is_first and not events and not shown and features is None:
        raise not_found("such person")
    return UserData(
        user_id=user_id,
        features=features,
        events=[_event(event) for _, event in events],
        exposures=[_exposure(one) for one in shown],
        next_cursor=str(events[-1][0]) if len(events) == limit else None,
    )


@router.delete("/users/{user_id}", dependencies=permitted("admin"), operation_id="forget_user")
async def forget_user(user_id: UserId, service: ServiceOf) -> Forgotten:
    """Forget a person: state and events go at once, and no later event of theirs is taken."""
    kept_as = service.pseudonyms(user_id)
    service.answers.forget(kept_as)
    await service.exposures.flush()
    tombstone = service.tombstones(kept_as)
    deleted = await service.durably(service.store.forget_user(kept_as, tombstone, int(time.time())))
    service.answers.forget(kept_as)  # again: a list may have begun meanwhile that does not know yet
    return Forgotten(user_id=user_id, events_deleted=deleted)


def _event(event: Event) -> EventOut:
    return EventOut(
        event_id=event.event_id,
        item_id=event.item_id,
        event=event.event,
        timestamp=event.time_s,
        value=event.value,
        request_id=event.request_id or None,
    )


def _exposure(one: Exposure) -> ExposureOut:
    return ExposureOut(
        request_id=one.request_id,
        timestamp=one.time_s,
        item_ids=list(one.item_ids),
        model_version=one.model_version or None,
        variants=dict(one.variants),
    )
