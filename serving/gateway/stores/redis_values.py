"""Records of the store as the JSON texts that Redis keeps, and back."""

from __future__ import annotations

import json
from typing import Any

from serving.gateway.records import ApiKey, Exposure, StoredItem


def encoded(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def item_of(text: str, seq: float) -> StoredItem:
    """The item behind its JSON; `seq` is kept beside it."""
    return StoredItem(**{**json.loads(text), "seq": int(seq)})


def exposure_of(text: str) -> Exposure:
    """The list that was shown behind its JSON."""
    values = json.loads(text)
    return Exposure(**{**values, "item_ids": tuple(values["item_ids"]), "scores": tuple(values["scores"])})


def key_of(text: str, used: str | None) -> ApiKey:
    """The key behind its JSON; the time of its last use is kept beside it."""
    values = json.loads(text)
    return ApiKey(**{**values, "scopes": tuple(values["scopes"]), "last_used_s": int(used or 0)})
