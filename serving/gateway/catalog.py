"""The items in the gateway's memory: titles for answers, and lists that need no model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.config import EventRule
from serving.gateway.model_requests import Rules
from serving.gateway.records import StoredItem
from serving.gateway.stores.base import Store

ITEMS_AT_ONCE = 5000


class Catalog:
    """All items by id, kept up to date with the store by their change numbers."""

    def __init__(self, show_unreleased: bool = False) -> None:
        """show_unreleased: whether items are in lists before their `published_at`."""
        self._show_unreleased = show_unreleased
        self._items: dict[str, StoredItem] = {}
        self._popular: list[str] = []
        self._latest: list[str] = []
        self._counts: dict[str, int] = {}
        self.seq = 0  # of the newest change that is known here

    def __len__(self) -> int:
        return len(self._items)

    async def refresh(self, store: Store) -> int:
        """Take over what has changed in the store; returns how many items did."""
        changed = 0
        while items := await store.changed_items(self.seq, ITEMS_AT_ONCE):
            for item in items:
                self._items[item.item_id] = item
            self.seq = max(self.seq, items[-1].seq)
            changed += len(items)
        if changed:
            self._latest = self._by_date()
        return changed

    async def count(self, store: Store, rules: Mapping[str, EventRule]) -> None:
        """Order the items by how many positive events they have."""
        counts: dict[str, int] = {}
        for (item_id, kind), count in (await store.item_counts()).items():
            if kind in rules and rules[kind].positive:
                counts[item_id] = counts.get(item_id, 0) + count
        self._counts = counts
        self._popular = sorted((i for i, n in counts.items() if n > 0), key=lambda item_id: (-counts[item_id], item_id))

    def get(self, item_id: str) -> StoredItem | None:
        """An item, withdrawn ones too."""
        return self._items.get(item_id)

    def items(self) -> Iterable[StoredItem]:
        """All items, withdrawn ones too."""
        return self._items.values()

    def is_shown(self, item_id: str) -> bool:
        """Whether an item may be in an answer; one that the store does not know may."""
        item = self._items.get(item_id)
        return item is None or not item.is_withdrawn

    def changed(self, after_seq: int) -> list[StoredItem]:
        """What the model server has to be told that changed after a number: items over the API, and withdrawals."""
        return [i for i in self._items.values() if i.seq > after_seq and (i.is_live or i.is_withdrawn)]

    def popular(self, k: int, rules: Rules, hidden: frozenset[str] = frozenset()) -> list[tuple[str, float]]:
        """The most popular items under the rules, with their counts."""
        return [(i, float(self._counts[i])) for i in self._first(self._popular, k, rules, hidden)]

    def latest(self, k: int, rules: Rules, hidden: frozenset[str] = frozenset()) -> list[tuple[str, float]]:
        """The items that were published last, with the time (seconds since 1970; 0 = unknown)."""
        return [(i, float(published_s(self._items[i].fields))) for i in self._first(self._latest, k, rules, hidden)]

    def allowed(self, item_ids: Iterable[str], rules: Rules, hidden: frozenset[str] = frozenset()) -> Iterator[str]:
        """Those of the items that the rules let through, in their order."""
        exclude, allow, now_s = {*rules.exclude, *hidden}, set(rules.allow), time.time()
        of_creator: dict[Any, int] = {}
        for item_id in item_ids:
            item = self._items.get(item_id)
            if item is None or item.is_withdrawn or item_id in exclude or (allow and item_id not in allow):
                continue
            if rules.domain and item.fields.get("domain") != rules.domain:
                continue
            if not self._fits(item, rules, now_s):
                continue
            creator = item.fields.get("creator")
            if rules.max_per_creator > 0 and creator and of_creator.get(creator, 0) >= rules.max_per_creator:
                continue
            of_creator[creator] = of_creator.get(creator, 0) + 1
            yield item_id

    def is_out(self, item: StoredItem) -> bool:
        """Whether an item's day has come; lists of a catalogue with `show_unreleased` do not wait for it."""
        return self._show_unreleased or published_s(item.fields) <= time.time()

    def _fits(self, item: StoredItem, rules: Rules, now_s: float) -> bool:
        """Whether an item has appeared, and recently enough; of one without a date nothing is known."""
        published = published_s(item.fields)
        if rules.max_item_age_s and not (published and now_s - published <= rules.max_item_age_s):
            return False
        return self._show_unreleased or published <= now_s

    def _first(self, order: list[str], k: int, rules: Rules, hidden: frozenset[str]) -> list[str]:
        found = []
        for item_id in self.allowed(order, rules, hidden):
            found.append(item_id)
            if len(found) == k:
                break
        return found

    def _by_date(self) -> list[str]:
        return sorted(self._items, key=lambda i: (-published_s(self._items[i].fields), -self._items[i].seq))


def published_s(fields: Mapping[str, Any]) -> int:
    """When an item appeared, seconds since 1970; 0 where unknown."""
    return int(fields.get("published_at") or 0)
