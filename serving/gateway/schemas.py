"""Bodies of requests and answers. Their fields are the API's documentation."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

MAX_EVENTS = 1000
MAX_ITEMS = 1000
MAX_K = 1000
MAX_HISTORY = 500
MAX_IDS = 1000
MAX_IDS_IN_QUERY = 50  # what fits into a line of HTTP; the body of a POST takes more
_ID_PATTERN = r"^[^\x00-\x1f\x7f]+$"
_LATEST_S = 253_402_300_799  # the end of the year 9999


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is not valid Unicode (a lone surrogate)") from error
    return text


Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_ID_PATTERN), AfterValidator(_encodable)]
Text = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_encodable)]
Word = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(_encodable)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventIn(_Request):
    """One interaction of a person with an item."""

    user_id: Id
    item_id: Id
    event: Word = Field(default="play", description="a kind that the event rules name")
    timestamp: Annotated[int, Field(ge=0, le=_LATEST_S)] | datetime | None = Field(
        default=None, description="seconds since 1970 or RFC 3339; the time of arrival where absent"
    )
    value: Finite | None = Field(default=None, description="the rating, or another strength")
    event_id: Id | None = Field(default=None, description="the same id again is the same event; made here where absent")
    request_id: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] | None = Field(
        default=None, description="of the answer that this event follows"
    )

    @field_validator("timestamp")
    @classmethod
    def _in_seconds(cls, value: int | datetime | None) -> int | None:
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            try:
                return max(0, int(aware.timestamp()))
            except (OverflowError, ValueError) as error:
                raise ValueError("is out of range") from error
        return value


class EventBatch(_Request):
    """Up to 1,000 events; each is judged by itself."""

    events: list[Any] = Field(
        min_length=1,
        max_length=MAX_EVENTS,
        json_schema_extra={"items": {"$ref": "#/components/schemas/EventIn"}},
    )


class EventOutcome(BaseModel):
    """What became of one event of a request, in the order of the request."""

    status: Literal["accepted", "duplicate", "refused"]
    event_id: str | None = None
    field: str | None = Field(default=None, description="of a refused event: where the fault is")
    reason: str | None = None


class EventsAccepted(BaseModel):
    """The outcomes; what is accepted is durable."""

    accepted: int
    duplicates: int
    refused: int
    outcomes: list[EventOutcome]


class SessionEvent(_Request):
    """An interaction of a session without an id."""

    item_id: Id
    event: Word = "play"
    age_s: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = Field(default=0, description="seconds ago")


class ListRules(_Request):
    """The rules of a list."""

    k: int = Field(default=10, ge=1, le=MAX_K, description="items at most")
    domain: Word | None = Field(default=None, description="music, video, ...; any where absent")
    exclude: list[Id] = Field(default=[], max_length=MAX_IDS, description="items that are not shown")
    allow: list[Id] = Field(default=[], max_length=MAX_IDS, description="nothing else is shown")
    max_per_creator: int | None = Field(default=None, ge=0, le=MAX_K, description="0 = any number")
    max_item_age_s: int | None = Field(default=None, ge=0, le=_LATEST_S, description="published within so many seconds")


class RankingRules(ListRules):
    """The rules of a list, and how it is put together."""

    diversity: float | None = Field(default=None, ge=0, le=1, description="0 = by utility alone")
    exploration_rate: float | None = Field(default=None, ge=0, le=1, description="chance of each place to be drawn")
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1, description="of the exploration")


class _IdsInQuery(BaseModel):
    exclude: list[Id] = Field(default=[], max_length=MAX_IDS_IN_QUERY, description="not shown; may be repeated")
    allow: list[Id] = Field(default=[], max_length=MAX_IDS_IN_QUERY, description="nothing else; may be repeated")


class ListQuery(_IdsInQuery, ListRules):
    """The rules of a list, in a query."""


By = Literal["both", "content", "behaviour"]


class SimilarQuery(ListQuery):
    """The rules of a list of similar items, in a query."""

    by: By = Field(default="both", description="content: what the items are; behaviour: who takes them")


class RecommendQuery(_IdsInQuery, RankingRules):
    """The rules of a list of recommendations, in a query."""


class RecommendBody(RankingRules):
    """A request for a list, for a session (a history) or a person (an id)."""

    user_id: Id | None = None
    history: list[SessionEvent] = Field(default=[], max_length=MAX_HISTORY, description="oldest first")
    objective_weights: dict[Word, Finite] | None = Field(
        default=None, description="kind of event -> weight; others count 0"
    )


class ItemCard(BaseModel):
    """What is shown of an item."""

    item_id: str
    title: str | None = None
    domain: str | None = None
    creator: str | None = None
    tags: list[str] = []
    published_at: int | None = Field(default=None, description="seconds since 1970")
    duration_s: float | None = None
    media_url: str | None = Field(default=None, description="path of the item's own file")


class RankedItem(ItemCard):
    """An item and its place."""

    position: int = Field(description="from 1")
    score: float
    probabilities: dict[str, float] = Field(default={}, description="kind of event -> calibrated probability")
    reason: str = Field(
        default="", description="ranked, similar, new_person, diverse, explored; empty without the model"
    )


class DegradedOut(BaseModel):
    """Who answered in place of the model, or that the person's events were out of reach."""

    answered_by: Literal["model", "last_list", "popular", "latest"]
    cause: str


class RankedList(BaseModel):
    """A list, best first."""

    request_id: str = Field(description="name it in the events that follow from this list")
    items: list[RankedItem]
    model_version: int | None = None
    variants: dict[str, str] = Field(default={}, description="experiment -> variant")
    is_new_user: bool = Field(default=False, description="nothing is known of the person: the list of new people")
    by: By | None = Field(
        default=None,
        description="of similar items: what orders them; both where nothing is known of the item by what was asked for",
    )
    degraded: DegradedOut | None = None


class PartOut(BaseModel):
    """One part of a score."""

    name: str
    title: str | None = None
    value: float


class Explanation(BaseModel):
    """What an item's scores for a person are made of; parts and rest add up."""

    item: ItemCard
    score: float = Field(description="of the retrieval model")
    history: list[PartOut] = Field(description="what each interaction adds to the score, strongest first")
    history_rest: float
    utility: float = Field(description="of the ranker; the score where there is none")
    fields: list[PartOut] = Field(description="what each field of the ranker adds to the utility, strongest first")
    fields_rest: float
    model_version: int


class ItemIn(_Request):
    """An item's columns; what is absent is unknown."""

    title: Text | None = None
    description: Text | None = None
    tags: list[Word] = Field(default=[], max_length=256)
    domain: Word | None = None
    creator: Word | None = None
    media_uri: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="below media_root"
    )
    published_at: Annotated[int, Field(ge=-_LATEST_S, le=_LATEST_S)] | None = Field(
        default=None, description="s since 1970"
    )
    duration_s: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    numeric: dict[Word, Finite] = Field(default={}, description="declared numeric columns")
    categorical: dict[Word, Word] = Field(default={}, description="declared categorical columns")
    embeddings: dict[Word, list[Finite]] = Field(default={}, description="declared embeddings")


class NamedItemIn(ItemIn):
    """An item of a bulk request."""

    item_id: Id


class ItemBatch(_Request):
    """Up to 1,000 items; all are written, or none."""

    items: list[NamedItemIn] = Field(min_length=1, max_length=MAX_ITEMS)


class ItemOutcome(BaseModel):
    """An item that is kept; whether it is in answers already."""

    item_id: str
    status: Literal["shown", "waiting"]
    reason: str | None = Field(
        default=None, description="of one that waits: for a model server, for the next build, or for its day"
    )


class ItemsAccepted(BaseModel):
    """Outcomes in the order of the request."""

    items: list[ItemOutcome]


class ItemPage(BaseModel):
    """Items and the cursor of the next page."""

    items: list[ItemCard]
    next_cursor: str | None = None


class UserIn(_Request):
    """Declared features of a person."""

    numeric: dict[Word, Finite] = Field(default={}, max_length=100)
    categorical: dict[Word, Word] = Field(default={}, max_length=100)


class EventOut(BaseModel):
    """A stored event."""

    event_id: str
    item_id: str
    event: str
    timestamp: int | None
    value: float | None = None
    request_id: str | None = None


class ExposureOut(BaseModel):
    """A list that the person was shown."""

    request_id: str
    timestamp: int
    item_ids: list[str]
    model_version: int | None = None
    variants: dict[str, str] = {}


class UserData(BaseModel):
    """Everything that is held of a person; events by pages, the rest with the first."""

    user_id: str
    features: dict[str, Any] | None
    events: list[EventOut]
    exposures: list[ExposureOut]
    next_cursor: str | None = None


class Forgotten(BaseModel):
    """The person's state is gone."""

    user_id: str
    events_deleted: int


class Health(BaseModel):
    """Whether the gateway answers, and with which parts."""

    status: Literal["ok", "degraded"]
    store: bool
    model: bool
    model_version: int | None = None
