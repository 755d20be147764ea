"""Lists where the model is away: the person's last good one, else the popular items, else the latest."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from serving.config import ListDefaults
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.model_requests import RecommendRequest, Rules

CANDIDATES = 5  # for each place of a diverse list


class Fallback(NamedTuple):
    """A list and where it comes from."""

    answered_by: str  # last_list, popular, latest
    item_ids: list[str]
    scores: list[float]


class Fallbacks:
    """Stands in for the model by the same rules: what is excluded, seen, withdrawn or not out yet is in no list.

    Where a request leaves a rule to the operator, `serving.defaults` holds here too. No place is explored.
    """

    def __init__(self, catalog: Catalog, config: GatewayConfig, defaults: ListDefaults) -> None:
        self._catalog, self._config, self._defaults = catalog, config, defaults
        self._last_lists: OrderedDict[str, tuple[list[str], list[float], float]] = OrderedDict()

    def remember(self, user_id: str, item_ids: list[str], scores: list[float]) -> None:
        """Keep a person's list that the model has made."""
        if user_id and item_ids:
            self._last_lists[user_id] = (item_ids, scores, time.monotonic())
            self._last_lists.move_to_end(user_id)
            while len(self._last_lists) > self._config.last_lists:
                self._last_lists.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """Drop what is remembered of a person."""
        self._last_lists.pop(user_id, None)

    def for_person(self, user_id: str, request: RecommendRequest) -> Fallback:
        """A list for a person, without the items of their history."""
        hidden = frozenset(request.history.item_ids)
        last = self._last_lists.get(user_id) if user_id else None
        if last and time.monotonic() - last[2] < self._config.last_list_s:
            score_of = dict(zip(last[0], last[1]))
            kept = list(self._catalog.allowed(last[0], self._rules(request.rules), hidden))[: request.k]
            if kept:
                return Fallback("last_list", kept, [score_of[item_id] for item_id in kept])
        return self.for_anybody(request.k, request.rules, hidden, request.diversity)

    def for_anybody(self, k: int, rules: Rules, hidden: frozenset[str], diversity: float = 0.0) -> Fallback:
        """The popular items, else the latest. diversity: as the served option, 0 leaves it to the operator."""
        weight = max(diversity, 0.0) if diversity else self._defaults.diversity
        asked = CANDIDATES * k if weight else k
        answered_by, found = "popular", self._catalog.popular(asked, self._rules(rules), hidden)
        if not found:
            answered_by, found = "latest", self._catalog.latest(asked, self._rules(rules), hidden)
        chosen = self._diverse(found, k, weight) if weight else found
        return Fallback(answered_by, [item_id for item_id, _ in chosen], [score for _, score in chosen])

    def _rules(self, rules: Rules) -> Rules:
        return rules if rules.max_per_creator else replace(rules, max_per_creator=self._defaults.max_per_creator)

    def _diverse(self, ranked: list[tuple[str, float]], k: int, weight: float) -> list[tuple[str, float]]:
        """Maximal marginal relevance (Carbonell & Goldstein, 1998) over ranks; items are alike by what they share."""
        known = {item_id: _facts(self._catalog.get(item_id)) for item_id, _ in ranked}
        utility = {item_id: 1 - rank / len(ranked) for rank, (item_id, _) in enumerate(ranked)}
        redundancy = dict.fromkeys(known, 0.0)
        left = dict(ranked)
        chosen: list[tuple[str, float]] = []
        while left and len(chosen) < k:
            best = max(left, key=lambda item_id: (1 - weight) * utility[item_id] - weight * redundancy[item_id])
            chosen.append((best, left.pop(best)))
            for item_id in left:
                redundancy[item_id] = max(redundancy[item_id], _overlap(known[item_id], known[best]))
        return chosen


def _facts(item: Any) -> frozenset[tuple[str, str]]:
    """What two items may have in common: creator, domain, tags."""
    fields: Mapping[str, Any] = item.fields if item is not None else {}
    single = {(name, str(fields[name])) for name in ("creator", "domain") if fields.get(name)}
    return frozenset(single | {("tags", tag) for tag in fields.get("tags") or ()})


def _overlap(one: frozenset, other: frozenset) -> float:
    """Jaccard similarity."""
    return len(one & other) / len(one | other) if one and other else 0.0
