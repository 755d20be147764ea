"""What the stores hold: events, exposures, items, people and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One interaction of a person with an item; each answer makes as many as its person has."""

    event_id: str  # the same id again is the same event
    user_id: str
    item_id: str
    event: str  # a kind that the event rules name
    time_s: int | None = None  # seconds since 1970; None where the table has no times
    value: float | None = None  # the rating, or another strength
    request_id: str = ""  # of the answer that it follows


class Acceptance(Enum):
    """What a store did with an event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # of its `event_id`
    FORGOTTEN = "forgotten"  # its person has a tombstone


@dataclass(frozen=True)
class Exposure:
    """One list that was shown: positions are the places in `item_ids`, from 0."""

    request_id: str
    user_id: str
    time_s: int
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    model_version: int = 0  # 0 = no model answered
    variants: Mapping[str, str] = field(default_factory=dict)  # experiment -> variant
    degraded: str = ""  # the cause, where a fallback answered


@dataclass(frozen=True)
class StoredItem:
    """An item's columns and its state."""

    item_id: str
    fields: Mapping[str, Any]  # the catalogue's columns by their names, absent where absent
    is_live: bool = False  # came over the API: the model has to be told of it
    is_withdrawn: bool = False
    seq: int = 0  # number of its last change, growing over all items


@dataclass(frozen=True)
class UserState:
    """What is known of one person when a request comes."""

    events: tuple[Event, ...] = ()  # the most recent ones, oldest first
    is_forgotten: bool = False


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret."""

    key_id: str
    secret_hash: str  # SHA-256, hexadecimal
    scopes: tuple[str, ...]
    name: str = ""
    created_s: int = 0
    revoked_s: int = 0  # 0 = valid
    last_used_s: int = 0
