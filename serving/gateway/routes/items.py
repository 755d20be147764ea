"""Items: new, changed, withdrawn."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from components.media.errors import MediaError
from serving.gateway.problems import FieldError, Problem, invalid, not_found, responses
from serving.gateway.records import StoredItem
from serving.gateway.routes.cards import card_of
from serving.gateway.routes.dependencies import COMMON_ERRORS, ItemId, ServiceOf, permitted
from serving.gateway.schemas import ItemBatch, ItemCard, ItemIn, ItemOutcome, ItemPage, ItemsAccepted
from serving.gateway.service import Service

ANNOUNCED = "it is shown from its published_at on"
router = APIRouter(prefix="/v1", tags=["items"], responses=responses(*COMMON_ERRORS))


@router.put("/items/{item_id}", dependencies=permitted("write"), responses=responses(409), operation_id="put_item")
async def put_item(item_id: ItemId, body: ItemIn, service: ServiceOf) -> ItemOutcome:
    """Add an item, or replace it; it is in answers from the next one on, or from its `published_at`."""
    return (await _put([_stored(item_id, body, service, "body")], service))[0]


@router.post("/items", dependencies=permitted("write"), responses=responses(409), operation_id="put_items")
async def put_items(body: ItemBatch, service: ServiceOf) -> ItemsAccepted:
    """Add or replace up to 1,000 items; all are kept, or none."""
    named = {one.item_id: one for one in body.items}
    if len(named) < len(body.items):
        raise invalid("body.items", "an item_id comes twice")
    items = [_stored(one.item_id, one, service, f"body.items.{at}") for at, one in enumerate(body.items)]
    return ItemsAccepted(items=await _put(items, service))


@router.get("/items/{item_id}", dependencies=permitted("read"), responses=responses(404), operation_id="get_item")
async def get_item(item_id: ItemId, service: ServiceOf) -> ItemCard:
    """What is shown of an item."""
    item = service.catalog.get(item_id)
    if item is None or item.is_withdrawn:
        raise not_found("such item")
    return card_of(service.catalog, item_id)


@router.get("/items", dependencies=permitted("read"), operation_id="list_items")
async def list_items(
    service: ServiceOf,
    cursor: Annotated[str, Query(pattern=r"^\d{1,18}$", description="next_cursor of the page before")] = "0",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ItemPage:
    """All items that are shown, page by page, the longest unchanged first."""
    found = await service.read(service.store.changed_items(int(cursor), limit))
    await service.read(service.catalog.refresh(service.store))
    shown = [card_of(service.catalog, item.item_id) for item in found if not item.is_withdrawn]
    return ItemPage(items=shown, next_cursor=str(found[-1].seq) if len(found) == limit else None)


@router.delete(
    "/items/{item_id}",
    dependencies=permitted("write"),
    status_code=204,
    response_class=Response,
    responses=responses(404),
    operation_id="withdraw_item",
)
async def withdraw_item(item_id: ItemId, service: ServiceOf) -> Response:
    """Withdraw an item: it is in no answer from the next one on, of this model and every later one."""
    if not await service.durably(service.store.withdraw_item(item_id)):
        raise not_found("such item")
    await service.live_items.tell([item_id], service.settings.gateway.tell_s)
    return Response(status_code=204)


async def _put(items: list[StoredItem], service: Service) -> list[ItemOutcome]:
    if withdrawn := await service.durably(service.store.put_items(items)):
        places = [place for place, item in enumerate(items) if item.item_id in withdrawn]
        reason = "an item of this id was withdrawn for good; use another id"
        errors = tuple(FieldError(field=f"body.items.{place}.item_id", reason=reason) for place in places)
        raise Problem(409, "withdrawn", reason, errors)
    announced = {item.item_id: ANNOUNCED for item in items if not service.catalog.is_out(item)}
    told = await service.live_items.tell([item.item_id for item in items], service.settings.gateway.tell_s)
    waiting = announced | told
    return [
        ItemOutcome(
            item_id=item.item_id,
            status="waiting" if item.item_id in waiting else "shown",
            reason=waiting.get(item.item_id),
        )
        for item in items
    ]


def _stored(item_id: str, body: ItemIn, service: Service, where: str) -> StoredItem:
    """The item as it is kept. Raises Problem 422 for columns that are not declared and media out of reach."""
    embeddings = {f"embedding:{name}": values for name, values in body.embeddings.items()}
    declared = service.item_columns
    for group, kind, names in (
        ("numeric", "number", body.numeric),
        ("categorical", "category", body.categorical),
        ("embeddings", "embedding", embeddings),
    ):
        for name in names:
            if declared.get(name) != kind:
                raise invalid(f"{where}.{group}", f"the catalogue has no {kind} column {name!r}")
    for name, values in body.embeddings.items():
        expected = service.settings.data.embeddings[name]
        if len(values) != expected:
            raise invalid(f"{where}.embeddings.{name}", f"has {len(values)} numbers, expected {expected}")
    if body.media_uri:
        try:
            with service.settings.media.open_local(body.media_uri):
                pass
        except MediaError as error:
            raise invalid(f"{where}.media_uri", error.reason.replace("_", " ")) from error  # no path of this machine
    columns = body.model_dump(exclude={"item_id", "numeric", "categorical", "embeddings"})
    fields = {**columns, **body.numeric, **body.categorical, **embeddings}
    return StoredItem(item_id, {name: value for name, value in fields.items() if value not in (None, [])}, True)
