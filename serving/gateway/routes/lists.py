"""Lists: recommendations, similar items, what is popular, what is new; and why."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json

from serving.gateway.answers import Ask
from serving.gateway.model_requests import Rules, option_of
from serving.gateway.problems import invalid, not_found, responses
from serving.gateway.records import Event
from serving.gateway.routes.cards import card_of, ranked_list
from serving.gateway.routes.dependencies import COMMON_ERRORS, ItemId, ServiceOf, UserId, deadline_of, permitted
from serving.gateway.schemas import (
    Explanation,
    ListQuery,
    ListRules,
    PartOut,
    RankedItem,
    RankedList,
    RecommendBody,
    RecommendQuery,
    SimilarQuery,
)
from serving.gateway.service import Service

router = APIRouter(prefix="/v1", tags=["lists"], responses=responses(*COMMON_ERRORS))
MAX_PARTS = 20  # of an explanation, strongest first; the others are in the rest


def rules_of(query: ListRules) -> Rules:
    """The rules as the model takes them."""
    return Rules(
        exclude=tuple(query.exclude),
        allow=tuple(query.allow),
        domain=query.domain or "",
        max_per_creator=option_of(query.max_per_creator),
        max_item_age_s=query.max_item_age_s or 0,
    )


@router.get(
    "/users/{user_id}/recommendations",
    dependencies=permitted("read"),
    response_model=RankedList,
    operation_id="recommend",
)
async def recommend(
    user_id: UserId, query: Annotated[RecommendQuery, Query()], request: Request, service: ServiceOf
) -> Response:
    """A list for a person, with everything that is known of them up to this moment."""
    body = RecommendBody.model_construct(user_id=user_id, **dict(query))  # both were validated on their way here
    return _as_json(await recommended(body, request, service))


@router.post(
    "/recommendations", dependencies=permitted("read"), response_model=RankedList, operation_id="recommend_for"
)
async def recommend_for(body: RecommendBody, request: Request, service: ServiceOf) -> Response:
    """A list for a session without an id, from the history in the body; or for a person."""
    return _as_json(await recommended(body, request, service))


def _as_json(fields: dict[str, Any]) -> Response:
    """A list as it is sent: pydantic's serializer takes a quarter of the standard library's time."""
    return Response(to_json(fields), media_type="application/json")


async def recommended(body: RecommendBody, request: Request, service: Service) -> dict[str, Any]:
    """The fields of the `RankedList` for a body."""
    kinds = service.settings.kinds
    weights = body.objective_weights or {}
    if unknown := sorted(set(weights) - set(kinds)):
        raise invalid("body.objective_weights", f"no kind of event {unknown[0]!r}, expected some of {', '.join(kinds)}")
    now_s = int(time.time())
    ask = Ask(
        request_id=uuid.uuid4().hex,  # of the list: a caller's own id may come twice
        deadline=deadline_of(request, service.settings.gateway.budget_ms),
        user_id=service.pseudonyms(body.user_id or ""),
        marks=service.marks(body.user_id or ""),
        k=body.k,
        rules=rules_of(body),
        objective_weights=tuple(weights.get(kind, 0.0) for kind in kinds) if weights else (),
        diversity=option_of(body.diversity),
        exploration_rate=option_of(body.exploration_rate),
        seed=body.seed or 0,
        events=tuple(Event("", "", one.item_id, one.event, int(now_s - one.age_s)) for one in body.history),
        stated=frozenset(name for name, value in body if value is not None),
    )
    answer = await service.answers.recommend(ask)
    return ranked_list(service.catalog, answer, ask.request_id, kinds)


@router.get(
    "/items/{item_id}/similar",
    dependencies=permitted("read"),
    responses=responses(404),
    response_model=RankedList,
    operation_id="similar",
)
async def similar(
    item_id: ItemId, query: Annotated[SimilarQuery, Query()], request: Request, service: ServiceOf
) -> Response:
    """The items most like one: by what they are, by who takes them, or by both."""
    return _as_json(await most_like(item_id, query, request, service))


async def most_like(item_id: str, query: SimilarQuery, request: Request, service: Service) -> dict[str, Any]:
    """The fields of the `RankedList` of the items most like one. Raises Problem 404."""
    deadline = deadline_of(request, service.settings.gateway.budget_ms)
    answer = await service.answers.similar(item_id, query.by, query.k, rules_of(query), deadline)
    if not answer.item_ids and service.catalog.get(item_id) is None:
        raise not_found("such item")
    return ranked_list(service.catalog, answer, request.state.request_id, service.settings.kinds)


@router.get(
    "/users/{user_id}/explanations/{item_id}",
    dependencies=permitted("read"),
    responses=responses(404),
    operation_id="explain",
)
async def explain(user_id: UserId, item_id: ItemId, request: Request, service: ServiceOf) -> Explanation:
    """Why an item has its place for a person: what each interaction and each field adds to its scores."""
    if service.catalog.get(item_id) is None:
        raise not_found("such item")
    deadline = deadline_of(request, service.settings.gateway.explain_budget_ms)
    ask = Ask(request.state.request_id, deadline, service.pseudonyms(user_id), 1, marks=service.marks(user_id))
    found = await service.answers.explain(ask, item_id)
    history, fields = _strongest(found.history), _strongest(found.fields)
    return Explanation(
        item=card_of(service.catalog, item_id),
        score=found.score,
        history=[PartOut(name=one, title=card_of(service.catalog, one).title, value=value) for one, value in history],
        history_rest=found.score - sum(value for _, value in history),
        utility=found.utility,
        fields=[PartOut(name=one, value=value) for one, value in fields],
        fields_rest=found.utility - sum(value for _, value in fields),
        model_version=found.version,
    )


def _strongest(parts: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(parts, key=lambda part: -abs(part[1]))[:MAX_PARTS]


@router.get("/popular", dependencies=permitted("read"), operation_id="popular")
async def popular(query: Annotated[ListQuery, Query()], request: Request, service: ServiceOf) -> RankedList:
    """The items with the most positive events; the score is their number."""
    return _without_model(service, request, service.catalog.popular(query.k, rules_of(query)))


@router.get("/latest", dependencies=permitted("read"), operation_id="latest")
async def latest(query: Annotated[ListQuery, Query()], request: Request, service: ServiceOf) -> RankedList:
    """The items that appeared last; the score is the time (seconds since 1970, 0 = unknown)."""
    return _without_model(service, request, service.catalog.latest(query.k, rules_of(query)))


def _without_model(service: Service, request: Request, found: list[tuple[str, float]]) -> RankedList:
    items = [
        RankedItem(**card_of(service.catalog, item_id).model_dump(), position=place, score=score)
        for place, (item_id, score) in enumerate(found, start=1)
    ]
    return RankedList(request_id=request.state.request_id, items=items)
