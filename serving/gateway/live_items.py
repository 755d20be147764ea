"""Items that come and go while models are served: every model server is told, and told again after a restart or a swap.

The store holds each item's newest state under a growing number. For each server the gateway remembers the version it
told and the number up to which it told it; a new version, or a lost connection, begins again at 0. Vectors are made by
the version that is to hold them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence

from components.media.addresses import MediaRoots
from components.media.errors import DecoderUnavailable, MediaError
from components.media.extract import MediaArrays
from components.media.isolation import Decoder
from serving.gateway.catalog import Catalog, published_s
from serving.gateway.encoding import encode_inputs, raw_features
from serving.gateway.messages import TensorSpec
from serving.gateway.model_client import ModelClient, ModelRefused, ModelUnavailable
from serving.gateway.records import StoredItem
from serving.gateway.stores.base import Store, StoreUnavailable

log = logging.getLogger(__name__)
CALL_S = 10.0
ITEMS_AT_ONCE = 64
DECODED_ITEMS = 256  # media features kept, 100 KB each, so that a swap does not decode them again


class _Server:
    """What one model server has been told."""

    def __init__(self, client: ModelClient) -> None:
        self.client = client
        self.version = 0
        self.seq = 0
        self.is_connected_since_told = False
        self.refused: dict[str, str] = {}  # item -> why the version cannot take it
        self.specs: dict[str, dict[str, TensorSpec]] = {}  # inputs of the version's signatures
        self.lock = asyncio.Lock()


class LiveItems:
    """Keeps the model servers' items in step with the store's."""

    def __init__(
        self, store: Store, catalog: Catalog, clients: Sequence[ModelClient], roots: MediaRoots, poll_s: float
    ):
        """roots: from where media may be read. poll_s: how often versions, and what other gateways wrote, are looked
        for."""
        self._store, self._catalog, self._roots, self._poll_s = store, catalog, roots, poll_s
        self._servers = [_Server(client) for client in clients]
        self._decoder, self._decoding = Decoder(), threading.Lock()
        self._media: OrderedDict[tuple[str, int], MediaArrays | None] = OrderedDict()

    async def tell(self, item_ids: Sequence[str], within_s: float) -> dict[str, str]:
        """Tell every server what the store holds now. Returns for those of the items that a server does not show yet:
        why.

        within_s: after which the telling goes on without the caller.
        """
        telling = asyncio.ensure_future(self._tell_all(item_ids))
        try:
            return await asyncio.wait_for(asyncio.shield(telling), within_s)
        except asyncio.TimeoutError:
            return dict.fromkeys(item_ids, "the model servers are still being told")
        except StoreUnavailable as error:
            return dict.fromkeys(item_ids, str(error))

    async def run(self) -> None:
        """Look for changes until cancelled."""
        watches = [asyncio.create_task(self._watch(server)) for server in self._servers]
        try:
            while True:
                try:
                    await self._catalog.refresh(self._store)
                except StoreUnavailable as error:
                    log.warning("items cannot be read", extra={"reason": str(error)})
                await asyncio.gather(*(self._try_to_tell(server) for server in self._servers))
                await asyncio.sleep(self._poll_s)
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            self._decoder.close()

    async def _tell_all(self, item_ids: Sequence[str]) -> dict[str, str]:
        await self._catalog.refresh(self._store)
        failures = await asyncio.gather(*(self._try_to_tell(server) for server in self._servers))
        waiting: dict[str, str] = {}
        for server, failure in zip(self._servers, failures):
            for item_id in item_ids:
                if reason := failure or server.refused.get(item_id):
                    waiting[item_id] = reason
        return waiting

    async def _watch(self, server: _Server) -> None:
        """A connection that was lost may come back to a server that started again: it knows nothing."""
        while True:
            await server.client.wait_for_change()
            server.is_connected_since_told = False

    async def _try_to_tell(self, server: _Server) -> str:
        """Bring one server up to date; returns why not, or nothing."""
        try:
            async with server.lock:
                await self._tell(server)
        except (ModelUnavailable, ModelRefused) as error:
            return str(error)
        except Exception:  # of one try: the next one comes, and the other servers and items are waiting
            log.exception("items cannot be told")
            return "the items cannot be told now; the log says why"
        return ""

    async def _tell(self, server: _Server) -> None:
        version = await server.client.version(CALL_S)
        if version != server.version or not server.is_connected_since_told:
            server.version, server.seq, server.refused, server.specs = version, 0, {}, {}
            server.is_connected_since_told = True
        newest = self._catalog.seq
        changed = self._catalog.changed(server.seq)
        withdrawn = [item.item_id for item in changed if item.is_withdrawn]
        added = [item for item in changed if not item.is_withdrawn]
        if withdrawn:
            await server.client.withdraw_items(withdrawn, CALL_S)
        for start in range(0, len(added), ITEMS_AT_ONCE):
            await self._add(server, added[start : start + ITEMS_AT_ONCE])
        server.seq = newest

    async def _add(self, server: _Server, items: Sequence[StoredItem]) -> None:
        """Encode and add; where a batch is refused, one by one, so that one item does not keep out the others."""
        try:
            server.specs = server.specs or await server.client.signatures(CALL_S)
            media = [await asyncio.to_thread(self._media_of, item) for item in items]
            raw = [raw_features(item.item_id, item.fields, one) for item, one in zip(items, media)]
            vectors = await server.client.encode_items(encode_inputs(server.specs["encode_item"], raw), CALL_S)
            domains, creators = ([str(item.fields.get(name) or "") for item in items] for name in ("domain", "creator"))
            takes_dates = "published_at_s" in server.specs["add_items"]
            dates_s = [published_s(item.fields) for item in items] if takes_dates else None
            await server.client.add_items([item.item_id for item in items], vectors, domains, creators, dates_s, CALL_S)
        except (ModelRefused, ValueError, KeyError) as error:
            if len(items) == 1:
                server.refused[items[0].item_id] = _reason(error)
                log.warning("an item cannot be added", extra={"reason": _reason(error)})
                return
            for item in items:
                await self._add(server, [item])
        else:
            for item in items:
                server.refused.pop(item.item_id, None)

    def _media_of(self, item: StoredItem) -> MediaArrays | None:
        """The item's decoded medium; None where it has none that can be used."""
        uri = item.fields.get("media_uri")
        if not uri:
            return None
        key = (item.item_id, item.seq)
        with self._decoding:
            if key not in self._media:
                try:
                    with self._roots.open_local(uri) as descriptor:
                        self._media[key] = self._decoder.extract(descriptor)
                except MediaError as error:
                    log.warning("a medium cannot be used", extra={"reason": str(error)})
                    self._media[key] = None
                except (DecoderUnavailable, OSError) as error:  # not the medium's fault: looked at again with the next
                    log.error("no medium can be decoded now", extra={"reason": str(error)})
                    return None
                while len(self._media) > DECODED_ITEMS:
                    self._media.popitem(last=False)
            return self._media[key]


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said.partition("assertion failed: [")[2].partition("]")[0] or said
