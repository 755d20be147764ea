"""Items and lists as they are shown."""

from __future__ import annotations

from urllib.parse import quote

from serving.gateway.answers import Answer
from serving.gateway.catalog import Catalog
from serving.gateway.schemas import DegradedOut, ItemCard, RankedItem, RankedList


def card_of(catalog: Catalog, item_id: str) -> ItemCard:
    """What is shown of an item; its id alone where the store does not know it."""
    item = catalog.get(item_id)
    if item is None:
        return ItemCard(item_id=item_id)
    names = ("title", "domain", "creator", "published_at", "duration_s")
    return ItemCard(
        item_id=item_id,
        tags=list(item.fields.get("tags") or ()),
        media_url=f"/v1/media/{quote(item_id, safe='')}" if item.fields.get("media_uri") else None,
        **{name: item.fields.get(name) for name in names},
    )


def ranked_list(catalog: Catalog, answer: Answer, request_id: str, kinds: tuple[str, ...]) -> RankedList:
    """An answer with what is shown of its items. kinds: of events, in the order of the probabilities."""
    items = []
    for place, (item_id, score) in enumerate(zip(answer.item_ids, answer.scores)):
        probabilities = dict(zip(kinds, answer.probabilities[place])) if answer.probabilities else {}
        items.append(
            RankedItem(
                **card_of(catalog, item_id).model_dump(),
                position=place + 1,
                score=score,
                probabilities=probabilities,
                reason=answer.reasons[place] if answer.reasons else "",
            )
        )
    degraded = answer.degraded
    return RankedList(
        request_id=request_id,
        items=items,
        model_version=answer.model_version or None,
        variants=answer.variants,
        is_new_user=answer.is_new_user,
        degraded=DegradedOut(answered_by=degraded.answered_by, cause=degraded.cause) if degraded else None,  # type: ignore[arg-type]
    )
