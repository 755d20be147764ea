"""The page on which a person listens and watches: a list that changes with every like, skip and play."""

from __future__ import annotations

import secrets
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from serving.gateway.model_requests import Rules
from serving.gateway.page.covers import cover
from serving.gateway.page.rendering import render
from serving.gateway.page.session import KEY, PersonOf, page_permitted, refuse_other_origins, sign_in, sign_out
from serving.gateway.problems import Problem, not_found
from serving.gateway.routes import events, lists
from serving.gateway.routes.cards import card_of
from serving.gateway.routes.dependencies import ItemId, ServiceOf
from serving.gateway.schemas import By, EventIn, Finite, Id, ItemCard, RankedList, RecommendBody, SimilarQuery, Word
from serving.gateway.service import Service

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
SHOWN = 12  # items of a list
KNOWN_PEOPLE, NEW_LIKES = 12, 3
HISTORY = 8  # latest events that are shown
CHOICES = 15  # popular items among which somebody new chooses
WAYS: dict[By, str] = {"both": "Both", "content": "Sound and look", "behaviour": "Taken together"}  # of being alike


@router.get("/", response_model=None)
async def home(request: Request, service: ServiceOf, person: PersonOf) -> Response:
    """The list of the person who is signed in, or the way in."""
    try:
        await service.access.check(request.cookies.get(KEY), "read")
    except Problem:
        return await _way_in(request, service, needs_key=True)
    if not person:
        return await _way_in(request, service)
    return render(request, "listen.html", **await _listening(request, service, person, "", 0.0, 0.0))


@router.post("/page/sign-in", dependencies=page_permitted("read"))
async def enter(
    request: Request,
    service: ServiceOf,
    user_id: Annotated[Word, Form()] = "",
    liked: Annotated[list[Id] | None, Form()] = None,
) -> Response:
    """Sign in as a person of the store, or as somebody new with three likes."""
    name = user_id.strip()
    if liked:
        await service.access.check(request.cookies.get(KEY), "write")
        name = f"new-{secrets.token_hex(4)}"
        for item_id in liked[:CHOICES]:
            await events.add_events(EventIn(user_id=name, item_id=item_id, event=_liking(service)), service)
    response = RedirectResponse("/", status_code=303)
    if name:
        sign_in(response, request, name)
    return response


@router.post("/page/key")
async def enter_key(request: Request, service: ServiceOf, key: Annotated[str, Form(max_length=200)]) -> Response:
    """Keep the API key that this browser uses."""
    refuse_other_origins(request)
    await service.access.check(key.strip(), "read")
    response = RedirectResponse("/", status_code=303)
    sign_in(response, request, "", key.strip())
    return response


@router.post("/page/sign-out")
async def leave(request: Request) -> Response:
    """Sign out."""
    refuse_other_origins(request)
    response = RedirectResponse("/", status_code=303)
    sign_out(response)
    return response


@router.get("/page/list", dependencies=page_permitted("read"))
async def shown_list(
    request: Request,
    service: ServiceOf,
    person: PersonOf,
    domain: Word = "",
    diversity: Annotated[float, Query(ge=0, le=1)] = 0.0,
    exploration: Annotated[float, Query(ge=0, le=1)] = 0.0,
) -> Response:
    """The list under the controls."""
    return render(request, "list.html", **await _listening(request, service, person, domain, diversity, exploration))


@router.post("/page/events", dependencies=page_permitted("write"))
async def happened(
    request: Request,
    service: ServiceOf,
    person: PersonOf,
    item_id: Annotated[Id, Form()],
    event: Annotated[Word, Form()],
    event_id: Annotated[Id, Form()],
    request_id: Annotated[str, Form(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = "",
    value: Annotated[Finite | None, Form()] = None,
    domain: Annotated[Word, Form()] = "",
    diversity: Annotated[float, Form(ge=0, le=1)] = 0.0,
    exploration: Annotated[float, Form(ge=0, le=1)] = 0.0,
) -> Response:
    """Keep what the person did, and show the list as it is after that."""
    if not person:
        raise Problem(401, "nobody", "sign in first")
    one = EventIn(
        user_id=person, item_id=item_id, event=event, event_id=event_id, request_id=request_id or None, value=value
    )
    kept = await events.add_events(one, service)
    if kept.refused:
        raise Problem(422, "event-refused", f"{kept.outcomes[0].field}: {kept.outcomes[0].reason}")
    return render(request, "list.html", **await _listening(request, service, person, domain, diversity, exploration))


@router.get("/page/player/{item_id}", dependencies=page_permitted("read"))
async def player(item_id: ItemId, request: Request, service: ServiceOf, request_id: str = "") -> Response:
    """The item's own file in a player that says when it is played and when it has ended."""
    card = _card(service, item_id)
    kinds = service.settings.kinds
    return render(
        request, "player.html", item=card, is_video=_is_video(service, item_id), request_id=request_id,
        tells=[
            (trigger, kind, uuid.uuid4().hex)
            for trigger, kind in (("play", "play"), ("ended", "complete"))
            if kind in kinds
        ],
    )  # fmt: skip


@router.get("/page/why/{item_id}", dependencies=page_permitted("read"))
async def why(item_id: ItemId, request: Request, service: ServiceOf, person: PersonOf) -> Response:
    """What the item's scores are made of."""
    found = await lists.explain(person, item_id, request, service)
    parts = [*found.history[:6], *([] if not found.fields else found.fields[:6])]
    largest = max((abs(part.value) for part in parts), default=0.0) or 1.0
    return render(request, "why.html", found=found, largest=largest)


@router.get("/page/similar/{item_id}", dependencies=page_permitted("read"))
async def more_like(item_id: ItemId, request: Request, service: ServiceOf, by: By = "both") -> Response:
    """The items most like one, and the ways of likeness to choose from."""
    found = RankedList(**await lists.most_like(item_id, SimilarQuery(k=6, by=by), request, service))
    return render(request, "similar.html", found=found, item=_card(service, item_id), asked=by, ways=WAYS)


@router.get("/page/cover/{item_id}")
async def drawn_cover(item_id: ItemId, service: ServiceOf) -> Response:
    """The item's cover."""
    item = service.catalog.get(item_id)
    creator = str((item.fields.get("creator") if item else "") or "")
    headers = {"Cache-Control": "public, max-age=86400"}
    return Response(cover(item_id, creator), media_type="image/svg+xml", headers=headers)


async def _listening(
    request: Request, service: Service, person: str, domain: str, diversity: float, exploration: float
) -> dict[str, Any]:
    """What the list's template shows."""
    body = RecommendBody(
        user_id=person or None,
        k=SHOWN,
        domain=domain or None,
        diversity=diversity or None,  # a control that nobody has moved leaves the operator's default
        exploration_rate=exploration or None,
        seed=secrets.randbelow(2**31) if exploration else None,
    )
    found = RankedList(**await lists.recommended(body, request, service))
    recent = await service.read(service.store.user_state(service.pseudonyms(person), (), HISTORY)) if person else None
    history = [(event, card_of(service.catalog, event.item_id)) for event in reversed(recent.events)] if recent else []
    return {
        "person": person,
        "found": found,
        "history": history,
        "domain": domain,
        "diversity": diversity,
        "exploration": exploration,
        "domains": _domains(service),
        "kinds": service.settings.kinds,
        "new_id": lambda: uuid.uuid4().hex,
    }


async def _way_in(request: Request, service: Service, needs_key: bool = False) -> Response:
    people: list[str] = []
    choices: list[ItemCard] = []
    if not needs_key:
        if not service.settings.gateway.privacy.pseudonyms:  # else what the store holds names nobody
            async for user_id, _ in service.store.users():
                people.append(user_id)
                if len(people) == KNOWN_PEOPLE:
                    break
        popular = service.catalog.popular(10 * CHOICES, Rules())
        choices = _mixed([card_of(service.catalog, item_id) for item_id, _ in popular])
    return render(
        request, "sign_in.html", people=people, choices=choices, needs_key=needs_key, num_likes=NEW_LIKES, person=""
    )


def _mixed(cards: list[ItemCard]) -> list[ItemCard]:
    """The first of each domain, then the second of each, and so on, as many as are to be chosen from."""
    by_domain: dict[str | None, list[ItemCard]] = {}
    for card in cards:
        by_domain.setdefault(card.domain, []).append(card)
    ranks = ((rank, card) for group in by_domain.values() for rank, card in enumerate(group))
    return [card for _, card in sorted(ranks, key=lambda ranked: ranked[0])][:CHOICES]


def _liking(service: Service) -> str:
    """The kind of event that says somebody likes an item: `like` where there are likes, else the first positive one."""
    rules = service.settings.data.event_rules
    return "like" if "like" in rules else next(kind for kind, rule in rules.items() if rule.positive)


def _domains(service: Service) -> list[str]:
    return sorted({str(item.fields["domain"]) for item in service.catalog.items() if item.fields.get("domain")})


def _card(service: Service, item_id: str) -> ItemCard:
    if service.catalog.get(item_id) is None:
        raise not_found("such item")
    return card_of(service.catalog, item_id)


def _is_video(service: Service, item_id: str) -> bool:
    item = service.catalog.get(item_id)
    uri = str((item.fields.get("media_uri") if item else "") or "").lower()
    return uri.endswith((".mp4", ".m4v", ".webm", ".mkv", ".mov", ".avi"))
