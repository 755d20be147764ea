"""One thread that writes to SQLite and commits together what waits together (group commit)."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from serving.gateway.stores.base import StoreUnavailable

T = TypeVar("T")
MAX_WAITING = 1000  # writes; what comes beyond is refused, so that nobody waits longer than a disk can explain
MAX_AT_ONCE = 256  # writes in one commit


class _Write(NamedTuple):
    apply: Callable[[sqlite3.Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class GroupWriter:
    """Applies writes in the order in which they came; each is acknowledged after the commit that holds it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._waiting: queue.Queue[_Write | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    async def write(self, apply: Callable[[sqlite3.Connection], T]) -> T:
        """What `apply` returns, once its commit is on disk.

        Raises StoreUnavailable where too much waits or the disk refuses.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        try:
            self._waiting.put_nowait(_Write(apply, loop, future))
        except queue.Full:
            raise StoreUnavailable(f"{MAX_WAITING} writes wait already") from None
        return await future

    def _run(self) -> None:
        connection = self._connect()
        is_last = False
        while not is_last:
            batch = [self._waiting.get()]
            while len(batch) < MAX_AT_ONCE and batch[-1] is not None and not self._waiting.empty():
                batch.append(self._waiting.get())
            is_last = batch[-1] is None
            self._commit(connection, [write for write in batch if write is not None])
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Write]) -> None:
        outcomes: list[tuple[_Write, Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                outcomes.append((write, *self._applied(connection, write)))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            refused = StoreUnavailable(f"SQLite: {error}")
            outcomes = [(write, None, refused) for write in batch]
        for write, result, failure in outcomes:
            write.loop.call_soon_threadsafe(_resolve, write.future, result, failure)

    def _applied(self, connection: sqlite3.Connection, write: _Write) -> tuple[Any, BaseException | None]:
        """One write inside the batch's transaction: a faulty one is taken back alone."""
        connection.execute("SAVEPOINT one")
        try:
            result = write.apply(connection)
        except sqlite3.OperationalError:
            raise  # the disk is full or the file is locked: the whole batch fails
        except Exception as error:  # noqa: BLE001 - it belongs to who asked, and is raised there
            connection.execute("ROLLBACK TO one")
            return None, error
        connection.execute("RELEASE one")
        return result, None


def _resolve(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.done():  # who asked has gone
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)
