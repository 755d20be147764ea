"""The parts of a running gateway, made, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from components.contract import catalogue_columns, user_columns
from serving.gateway.access import Access, RateLimit
from serving.gateway.answers import Answers
from serving.gateway.catalog import Catalog
from serving.gateway.config import ServerSettings, column_types
from serving.gateway.exposures import ExposureLog
from serving.gateway.live_items import LiveItems
from serving.gateway.metrics import Metrics
from serving.gateway.model_client import ModelClient, ModelUnavailable
from serving.gateway.privacy import Pseudonyms, Tombstones, load_keys, marks_of, tombstones_of
from serving.gateway.problems import unavailable
from serving.gateway.stores.base import REQUEST_CALL_S, Store, StoreUnavailable, open_store, within
from serving.gateway.tracing import Tracing, tracing_to

log = logging.getLogger(__name__)

COUNT_S = 10.0  # how often popularity is counted anew
WRITE_S = 5.0  # within which the store must have acknowledged
PROBE_S = 0.5  # of the readiness check
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class OpenToAll(ValueError):
    """A gateway that others can reach would answer without keys."""


@dataclass
class Service:
    """What the routes work with: `request.app.state.service`."""

    settings: ServerSettings
    store: Store
    clients: list[ModelClient]
    catalog: Catalog
    live_items: LiveItems
    answers: Answers
    exposures: ExposureLog
    access: Access
    rate_limit: RateLimit
    pseudonyms: Pseudonyms
    tombstones: Tombstones
    metrics: Metrics
    tracing: Tracing

    def __post_init__(self) -> None:
        self._tasks: list[asyncio.Task] = []
        self.item_columns = column_types(catalogue_columns(self.settings.data))
        self.user_columns = column_types(user_columns(self.settings.data))

    @property
    def client(self) -> ModelClient:
        """Of the model server that answers."""
        return self.clients[0]

    async def start(self) -> None:
        """Begin the work beside the requests."""
        loops = (
            self.exposures.run(),
            self.live_items.run(),
            self._count_popularity(),
            self.answers.admission.lag.run(),
        )
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Write what waits, and let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.exposures.flush()
        for client in self.clients:
            await client.close()
        await self.store.close()
        self.tracing.close()

    def marks(self, user_id: str) -> tuple[str, ...]:
        """The tombstones that tell whether a person, as applications say them, is forgotten."""
        return marks_of(self.tombstones, self.pseudonyms, user_id)

    def hosts(self) -> frozenset[str] | None:
        """Values of the Host header that are answered: any where keys keep others out."""
        if self.access.is_closed:
            return None
        return LOOPBACK_HOSTS | frozenset(self.settings.gateway.allow_hosts) | {self.settings.host}

    async def durably(self, call: Awaitable):
        """What the store's write returns. Raises Problem 503 where it is away or too late."""
        started = time.monotonic()
        try:
            return await within(call, WRITE_S)
        except StoreUnavailable as error:
            raise unavailable(
                "store-unavailable", "the store cannot acknowledge now; try again, an event under the same event_id"
            ) from error
        finally:
            self.metrics.store_seconds.labels("write").observe(time.monotonic() - started)

    async def read(self, call: Awaitable):
        """What the store's read returns. Raises Problem 503 where it is away or too late."""
        started = time.monotonic()
        try:
            return await within(call, WRITE_S)
        except StoreUnavailable as error:
            raise unavailable("store-unavailable", "the store cannot be read now") from error
        finally:
            self.metrics.store_seconds.labels("read").observe(time.monotonic() - started)

    async def health(self) -> tuple[bool, int | None]:
        """Whether the store answers, and which version the model server has."""
        return await _is_well(self.store.ping), await _version(self.client)

    async def _count_popularity(self) -> None:
        while True:
            try:
                await self.catalog.count(self.store, self.settings.data.event_rules)
                self.metrics.items.set(len(self.catalog))
            except StoreUnavailable as error:
                log.warning("popularity cannot be counted", extra={"reason": str(error)})
            await asyncio.sleep(COUNT_S)


async def _is_well(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        await within(ping(), PROBE_S)
    except StoreUnavailable:
        return False
    return True


async def _version(client: ModelClient) -> int | None:
    try:
        return await client.version(PROBE_S)
    except ModelUnavailable:
        return None


async def make_service(settings: ServerSettings) -> Service:
    """Open the store, connect to the model servers, read the items.

    Raises StoreUnavailable, OpenToAll, ValueError for a key of pseudonyms that cannot be used.
    """
    config, metrics, tracing = settings.gateway, Metrics(), tracing_to(settings.gateway.traces_endpoint)
    store = open_store(settings.store, REQUEST_CALL_S)
    await store.open()
    if store.durability_warning:
        log.warning(store.durability_warning)
    access = Access(store, settings.is_loopback)
    if not await access.has_keys() and not settings.is_loopback:
        await store.close()
        raise OpenToAll(
            f"{settings.host} can be reached by others and there is no key: "
            "zhiyin keys add makes one, --host 127.0.0.1 needs none"
        )
    clients = [ModelClient(address, settings.model_name) for address in settings.model_servers]
    catalog, exposures, tombstones = (
        Catalog(settings.show_unreleased),
        ExposureLog(store, metrics),
        await tombstones_of(store),
    )
    await catalog.refresh(store)
    await catalog.count(store, settings.data.event_rules)
    return Service(
        settings=settings,
        store=store,
        clients=clients,
        catalog=catalog,
        live_items=LiveItems(store, catalog, clients, settings.media, config.catalog_poll_s),
        answers=Answers(settings, store, clients[0], catalog, exposures, metrics, tracing),
        exposures=exposures,
        access=access,
        rate_limit=RateLimit(config.rate_limit_per_s, config.rate_limit_burst),
        pseudonyms=Pseudonyms(load_keys(config.privacy)),
        tombstones=tombstones,
        metrics=metrics,
        tracing=tracing,
    )
