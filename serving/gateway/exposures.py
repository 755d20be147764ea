"""Lists that were shown, written to the store in batches beside the answers."""

from __future__ import annotations

import asyncio
import logging

from serving.gateway.metrics import Metrics
from serving.gateway.records import Exposure
from serving.gateway.stores.base import Marks, Store, StoreUnavailable

log = logging.getLogger(__name__)
MAX_WAITING = 10_000  # lists; what comes beyond is dropped and counted
MAX_AT_ONCE = 500
PAUSE_S = 0.2  # between two batches


class ExposureLog:
    """Takes exposures without waiting; they may be lost in a crash, or while the store is away."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._waiting: asyncio.Queue[tuple[Exposure, Marks]] = asyncio.Queue(MAX_WAITING)

    def add(self, exposure: Exposure, marks: Marks) -> None:
        """Log a list. marks: of its person, who may be forgotten before it is written."""
        try:
            self._waiting.put_nowait((exposure, marks))
        except asyncio.QueueFull:
            self._metrics.exposures_lost.inc()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        while not self._waiting.empty():
            batch = [self._waiting.get_nowait() for _ in range(min(self._waiting.qsize(), MAX_AT_ONCE))]
            try:
                await self._store.add_exposures(*zip(*batch))
            except StoreUnavailable as error:
                self._metrics.exposures_lost.inc(len(batch))
                log.warning("exposures lost", extra={"count": len(batch), "reason": str(error)})
