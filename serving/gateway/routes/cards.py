"""Items and lists as they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from serving.gateway.answers import Answer
from serving.gateway.catalog import Catalog
from serving.gateway.schemas import ItemCard


def card_of(catalog: Catalog, item_id: str) -> ItemCard:
    """What is shown of an item; its id alone where the store does not know it."""
    return ItemCard(**_card(catalog, item_id))


def _card(catalog: Catalog, item_id: str) -> dict[str, Any]:
    """The fields of an `ItemCard`."""
    item = catalog.get(item_id)
    fields: Mapping[str, Any] = item.fields if item is not None else {}
    return {
        "item_id": item_id,
        "title": fields.get("title"),
        "domain": fields.get("domain"),
        "creator": fields.get("creator"),
        "tags": list(fields.get("tags") or ()),
        "published_at": fields.get("published_at"),
        "duration_s": fields.get("duration_s"),
        "media_url": f"/v1/media/{quote(item_id, safe='')}" if fields.get("media_uri") else None,
    }


def ranked_list(catalog: Catalog, answer: Answer, request_id: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a `RankedList`: an answer with what is shown of its items. They need no check, since the store
    holds what was validated on its way in.

    kinds: of events, in the order of the probabilities.
    """
    degraded = answer.degraded
    return {
        "request_id": request_id,
        "items": [
            {
                **_card(catalog, item_id),
                "position": place + 1,
                "score": score,
                "probabilities": dict(zip(kinds, answer.probabilities[place])) if answer.probabilities else {},
                "reason": answer.reasons[place] if answer.reasons else "",
            }
            for place, (item_id, score) in enumerate(zip(answer.item_ids, answer.scores))
        ],
        "model_version": answer.model_version or None,
        "variants": answer.variants,
        "is_new_user": answer.is_new_user,
        "by": answer.by or None,
        "degraded": {"answered_by": degraded.answered_by, "cause": degraded.cause} if degraded else None,
    }
