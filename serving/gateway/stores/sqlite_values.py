"""Rows of SQLite as the records of a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serving.gateway.records import ApiKey, Event, Exposure, StoredItem


def encoded(value: Any) -> str:
    """As JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def event_of(row: Sequence[Any]) -> Event:
    """An event of a person's state, behind its number."""
    event_id, user_id, item_id, event, time_s, value, request_id = row[1:]
    return Event(event_id, user_id, item_id, event, time_s, None if value is None else float(value), request_id)


def item_of(row: tuple) -> StoredItem:
    """An item, in the order of its columns."""
    return StoredItem(row[0], json.loads(row[1]), bool(row[2]), bool(row[3]), row[4])


def exposure_of(row: tuple) -> Exposure:
    """A list that was shown, likewise."""
    request_id, user_id, time_s, item_ids, scores, model_version, variants, degraded = row
    return Exposure(
        *(request_id, user_id, time_s, tuple(json.loads(item_ids)), tuple(json.loads(scores))),
        *(model_version, json.loads(variants), degraded),
    )


def key_of(row: tuple) -> ApiKey:
    """A key, likewise."""
    return ApiKey(row[0], row[1], tuple(row[2].split()), *row[3:])
