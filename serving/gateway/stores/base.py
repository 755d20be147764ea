"""The store's interface: everything of the service that outlives a process."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from async_timeout import timeout

from serving.gateway.records import Acceptance, ApiKey, Event, Exposure, StoredItem, UserState

T = TypeVar("T")
Marks = Sequence[str]  # tombstones of one person: any that stands tells that they are forgotten
COMMAND_CALL_S, REQUEST_CALL_S = 30.0, 1.0
EVENTS_AT_ONCE = 1000
IDENTITY, RENAMING = "identity", "renaming"  # in the store's settings


class StoreUnavailable(RuntimeError):
    """The store cannot be reached, or cannot write; what was asked for has not been acknowledged."""


class Store(ABC):
    """Durable state of the service. Every method raises StoreUnavailable where the store is away.

    What `add_events`, `put_items`, `withdraw_item`, `put_user` and `forget_user` have acknowledged survives a kill -9
    of any process; exposures and times of last use may be lost.
    """

    @abstractmethod
    async def open(self) -> None:
        """Connect, and bring the schema to this release's version."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what waits, then let go."""

    @abstractmethod
    async def ping(self) -> None:
        """Returns where the store answers."""

    @property
    @abstractmethod
    def durability_warning(self) -> str:
        """What the store promises less than durability at acknowledgement; empty where it promises that."""

    # Events -------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def add_events(self, events: Sequence[Event], marks: Sequence[Marks] = ()) -> list[Acceptance]:
        """Append events durably. Returns what became of each.

        marks: of the events' people, in their order; an event of somebody who is forgotten is left out.
        """

    @abstractmethod
    async def num_events(self) -> int:
        """How many events were ever accepted (a number that only grows)."""

    @abstractmethod
    async def item_counts(self) -> dict[tuple[str, str], int]:
        """Events by (item id, kind)."""

    @abstractmethod
    async def events_after(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """Everybody's events with numbers above `after`, in the order of acceptance; none only where there are none.

        An event that is accepted later has a higher number than all that were ever read here.
        """

    async def events(self) -> AsyncIterator[Event]:
        """All events in the order of their acceptance."""
        after = 0
        while found := await self.events_after(after, EVENTS_AT_ONCE):
            for _, event in found:
                yield event
            after = found[-1][0]

    # People -------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def user_state(self, user_id: str, marks: Marks, limit: int) -> UserState:
        """The person's most recent `limit` events, and whether they are forgotten."""

    @abstractmethod
    async def forgotten(self, tombstones: Sequence[str]) -> list[bool]:
        """For each tombstone whether it stands."""

    @abstractmethod
    async def put_user(self, user_id: str, fields: Mapping[str, Any], marks: Marks = ()) -> bool:
        """Set the declared features of a person in place of those before; False, and nothing, where they are
        forgotten."""

    @abstractmethod
    async def get_user(self, user_id: str) -> dict[str, Any] | None:
        """The declared features of a person."""

    @abstractmethod
    def users(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """All people with declared features, by id."""

    @abstractmethod
    async def user_events(self, user_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
        """A person's events with numbers above `after`, in the order of acceptance."""

    @abstractmethod
    async def user_exposures(self, user_id: str) -> list[Exposure]:
        """The lists that a person was shown."""

    @abstractmethod
    async def forget_user(self, user_id: str, tombstone: str, time_s: int) -> int:
        """Delete the person's events, exposures and features, and set the tombstone. Returns the number of events
        deleted."""

    @abstractmethod
    async def rename_users(self, rename: Callable[[str], str], name: str) -> int:
        """Give every person a new id; returns how many there are. Nothing else may write meanwhile.

        name: of this renaming; where it was cut short, a call with the same name goes on, and renames nobody twice.
        Raises ValueError where one of another name was cut short.
        """

    @abstractmethod
    async def clear_files(self) -> None:
        """Have the store's files lose what was deleted or renamed: logs and old pages hold it until then."""

    # Items --------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def put_items(self, items: Sequence[StoredItem]) -> list[str]:
        """Write items in place of those of the same ids; each gets a new `seq`.

        Returns the ids of those that are withdrawn, and here are not; where there are any, nothing is written.
        """

    @abstractmethod
    async def get_item(self, item_id: str) -> StoredItem | None:
        """One item, withdrawn ones too."""

    @abstractmethod
    async def withdraw_item(self, item_id: str) -> bool:
        """Show the item no more; False where there is none."""

    @abstractmethod
    async def changed_items(self, after_seq: int, limit: int) -> list[StoredItem]:
        """Items whose `seq` is above `after_seq`, by it: the way to read all items, and to learn what others
        changed."""

    # Exposures ----------------------------------------------------------------------------------------------------

    @abstractmethod
    async def add_exposures(self, exposures: Sequence[Exposure], marks: Sequence[Marks] = ()) -> None:
        """Log lists that were shown. marks: as of `add_events`; a list of somebody who is forgotten is left out."""

    @abstractmethod
    def exposures(self) -> AsyncIterator[Exposure]:
        """All lists that were shown, by time."""

    # Keys and settings --------------------------------------------------------------------------------------------

    @abstractmethod
    async def put_key(self, key: ApiKey) -> None:
        """Write a key, or its new state."""

    @abstractmethod
    async def get_key(self, key_id: str) -> ApiKey | None:
        """One key, revoked ones too."""

    @abstractmethod
    async def keys(self) -> list[ApiKey]:
        """All keys, the oldest first."""

    @abstractmethod
    async def touch_key(self, key_id: str, time_s: int) -> None:
        """Note the time of a key's last use."""

    @abstractmethod
    async def get_meta(self, name: str) -> str | None:
        """A setting of the store's own."""

    @abstractmethod
    async def set_meta_once(self, name: str, value: str) -> str:
        """Set it where it is not set; returns what it is now."""

    async def identity(self) -> str:
        """Names this store to others that remember how far they have read it, or it them.

        A store that is brought back from a copy lacks what came after, and so gets another one.
        """
        return await self.set_meta_once(IDENTITY, secrets.token_hex(8))


def open_store(url: str, call_s: float = COMMAND_CALL_S) -> Store:
    """The store behind an address: `sqlite:///absolute/file`, a file's path, or `redis://host:port/db`. It is not
    connected yet.

    call_s: after which a store across a network counts as away; a command has more time than a request.
    Raises ValueError for another scheme.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "sqlite":
        from serving.gateway.stores.sqlite import SqliteStore

        return SqliteStore(rest if separator else url)
    if scheme in ("redis", "rediss", "unix"):
        from serving.gateway.stores.redis import RedisStore

        return RedisStore(url, call_s)
    raise ValueError(f"store: got {url!r}, expected a file, sqlite:///FILE or redis://HOST:PORT/DB")


async def within(call: Awaitable[T], seconds: float) -> T:
    """What the call returns, if it does so in time; else it counts as a store that is away."""
    try:
        async with timeout(max(seconds, 0.001)):  # on this task: another one is two turns of the event loop
            return await call
    except asyncio.TimeoutError:
        raise StoreUnavailable(f"no answer within {1000 * seconds:.0f} ms") from None
