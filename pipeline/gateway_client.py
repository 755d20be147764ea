"""Calls of a running gateway's HTTP API from the command line: lists, new items, withdrawals."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from components.settings import SettingsError
from pipeline.local_model import RankedList

if TYPE_CHECKING:
    from components.config import DataConfig

T = TypeVar("T")
CALL_S = 60.0  # far above the gateway's own deadlines
ITEMS_AT_ONCE, BYTES_AT_ONCE = 1000, 900_000  # of one call; the gateway takes 1,000 items and 1 MiB
_PLACE = re.compile(r"body\.items\.(\d+)\.(.*)")
_HINTS = {
    401: "; --api-key-file FILE or ZHIYIN_API_KEY gives one",
    403: "; `zhiyin keys add --scope write` makes one that may",
}


class GatewayRefused(RuntimeError):
    """The gateway answered with a problem document, or cannot be reached."""

    def __init__(self, message: str, status: int = 0, errors: Sequence[Mapping[str, str]] = ()) -> None:
        """status: of HTTP, 0 without an answer. errors: field and reason of each fault of the request."""
        super().__init__(message)
        self.status, self.errors = status, errors


class TitledList(NamedTuple):
    """One person's list, and `domain: title` of each of its items."""

    ranked: RankedList
    titles: dict[str, str]
    degraded: str  # who answered in place of the model, and why; empty where the model did


@dataclass
class AddedItems:
    """What became of new items."""

    shown: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)  # item id -> why a model server does not show it yet
    refused: dict[str, str] = field(default_factory=dict)  # item id -> field and reason


class GatewayClient:
    """One gateway, by its address. Each method raises GatewayRefused where it does not answer with what was asked."""

    def __init__(self, url: str, api_key: str = "") -> None:
        """url: http(s)://host[:port]. Raises SettingsError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
            raise SettingsError(f"--gateway: got {url!r}, expected http://HOST:PORT or https://HOST:PORT")
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def recommend(self, user_ids: Sequence[str], k: int) -> Iterator[TitledList]:
        """A list of k items for each person, from everything that the service knows of them now."""
        yield from _run(self._recommend(user_ids, k))

    def add(self, items: Iterable[dict[str, Any]]) -> AddedItems:
        """Add or replace items, given as the fields of `POST /v1/items`; those that it refuses are left out."""
        return _run(self._add(items))

    def withdraw(self, item_ids: Sequence[str]) -> list[str]:
        """Withdraw items for good; returns those that the service does not have."""
        return _run(self._withdraw(item_ids))

    async def _recommend(self, user_ids: Sequence[str], k: int) -> list[TitledList]:
        async with self._session() as session:
            paths = [f"/v1/users/{quote(user_id, safe='')}/recommendations?k={k}" for user_id in user_ids]
            answers = [await self._call(session, "GET", path) for path in paths]
        return [_titled(user_id, answer) for user_id, answer in zip(user_ids, answers)]

    async def _add(self, items: Iterable[dict[str, Any]]) -> AddedItems:
        added = AddedItems()
        async with self._session() as session:
            for batch in _batches(items):
                await self._add_batch(session, batch, added)
        return added

    async def _add_batch(self, session: aiohttp.ClientSession, batch: list[dict[str, Any]], added: AddedItems) -> None:
        """Send a batch, which is taken whole or not at all; without what the gateway finds a fault in, sent again."""
        while batch:
            try:
                outcomes = (await self._call(session, "POST", "/v1/items", {"items": batch}))["items"]
            except GatewayRefused as error:
                faults = _faults_by_place(error)
                if not faults:
                    raise
                added.refused |= {batch[place]["item_id"]: fault for place, fault in faults.items()}
                batch = [item for place, item in enumerate(batch) if place not in faults]
            else:
                added.shown += [one["item_id"] for one in outcomes if one["status"] == "shown"]
                added.waiting |= {one["item_id"]: one["reason"] for one in outcomes if one["status"] == "waiting"}
                return

    async def _withdraw(self, item_ids: Sequence[str]) -> list[str]:
        unknown = []
        async with self._session() as session:
            for item_id in dict.fromkeys(item_ids):
                try:
                    await self._call(session, "DELETE", f"/v1/items/{quote(item_id, safe='')}")
                except GatewayRefused as error:
                    if error.status != 404:
                        raise
                    unknown.append(item_id)
        return unknown

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        async with aiohttp.ClientSession(self._url, headers=self._headers, timeout=timeout) as session:
            yield session

    async def _call(self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
        try:
            async with session.request(
                method, URL(path, encoded=True), json=body, allow_redirects=False
            ) as response:  # a redirect would take the key elsewhere
                text = await response.text()
                if response.status == 204:
                    return None
                found = _parsed(text)
                if response.status == 200 and found is not None:
                    return found
                raise self._refusal(response, found)
        except asyncio.TimeoutError as error:
            raise GatewayRefused(f"{self._url}: no answer within {CALL_S:.0f} s") from error
        except (aiohttp.ClientError, UnicodeError) as error:
            raise GatewayRefused(f"{self._url}: cannot be reached: {error}") from error

    def _refusal(self, response: aiohttp.ClientResponse, found: Any) -> GatewayRefused:
        problem = found if isinstance(found, dict) else {}
        if "detail" not in problem:
            return GatewayRefused(f"{self._url}: answers {response.status}, but not as a gateway does", response.status)
        wait_s = response.headers.get("Retry-After")
        after = f"; try again in {wait_s} s" if wait_s else _HINTS.get(response.status, "")
        message = f"{self._url}: {response.status} {response.reason}: {problem['detail']}{after}"
        return GatewayRefused(message, response.status, problem.get("errors", ()))


def item_body(row: Mapping[str, Any], data: DataConfig) -> dict[str, Any]:
    """The values of a row of the catalogue, as the fields of an item in `POST /v1/items`."""
    declared = {"numeric": data.numeric, "categorical": data.categorical}
    groups = {name: {column: row[column] for column in columns if column in row} for name, columns in declared.items()}
    groups["embeddings"] = {
        name: [float(value) for value in row[f"embedding:{name}"]]
        for name in data.embeddings
        if f"embedding:{name}" in row
    }
    grouped = {*data.numeric, *data.categorical, *(f"embedding:{name}" for name in data.embeddings)}
    plain = {name: value for name, value in row.items() if name not in grouped}
    return plain | {name: values for name, values in groups.items() if values}


def _run(call: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(call)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _titled(user_id: str, answer: Mapping[str, Any]) -> TitledList:
    items = answer["items"]
    ids = [item["item_id"] for item in items]
    titles = {
        item["item_id"]: ": ".join(text for text in (item["domain"], item["title"]) if text) or item["item_id"]
        for item in items
    }
    degraded = answer["degraded"]
    why = f"{degraded['answered_by']}: {degraded['cause']}" if degraded else ""
    return TitledList(RankedList(user_id, ids, [item["score"] for item in items], answer["is_new_user"]), titles, why)


def _batches(items: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for item in items:
        item_size = len(json.dumps(item)) + 2
        if batch and (len(batch) == ITEMS_AT_ONCE or size + item_size > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield batch


def _faults_by_place(error: GatewayRefused) -> dict[int, str]:
    """Place in the batch -> field and reason, of a 422 or a 409 that names items."""
    found: dict[int, str] = {}
    for fault in error.errors if error.status in (409, 422) else ():
        if place := _PLACE.fullmatch(fault["field"]):
            found.setdefault(int(place[1]), f"{place[2]}: {fault['reason']}")
    return found
