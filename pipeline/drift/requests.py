"""Requests for lists as tables whose columns exist in training and in serving alike, and TFDV's statistics of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLACES = 10  # of a list, from the first, that are looked at
TAKEN, UNTAKEN, UNKNOWN = "taken", "untaken", "unknown"  # in the training data; unknown: not in the index either


@dataclass(frozen=True)
class Request:
    """One person's question for a list, and the list."""

    history: tuple[str, ...] | None  # item ids, oldest first; None: of a session, whose history no store keeps
    events: tuple[str, ...]  # kind of each
    ages_s: tuple[float, ...]  # of each at the question, 0 = unknown
    shown: tuple[str, ...]  # item ids, best first


@dataclass(frozen=True)
class KnownItems:
    """What a model was trained on knows of the items of its index."""

    domains: Mapping[str, str]  # by item id, "" without one
    times_taken: Mapping[str, int]  # likewise

    def known_as(self, item_id: str) -> str:
        """TAKEN, UNTAKEN or UNKNOWN."""
        if item_id not in self.times_taken:
            return UNKNOWN
        return TAKEN if self.times_taken[item_id] else UNTAKEN


def statistics_of(requests: Sequence[Request], items: KnownItems, history_length: int) -> dict[str, Any]:
    """TFDV's statistics by table: `requests` (a row each), `histories` (an interaction), `lists` (a place).

    history_length: of a longer history the most recent so many count, as for the model. A table without rows is left
    out. Returns DatasetFeatureStatisticsList each.
    """
    rows = {
        "requests": (row for one in requests for row in _of_request(one, history_length)),
        "histories": (row for one in requests for row in _of_history(one, items, history_length)),
        "lists": (row for one in requests for row in _of_list(one, items)),
    }
    return {table: statistics for table, found in rows.items() if (statistics := _statistics(found)) is not None}


def _of_request(request: Request, history_length: int) -> Iterable[dict[str, Any]]:
    if request.history is not None:
        newest_s = request.ages_s[-1] if request.ages_s else 0.0
        yield {
            "history_length": float(min(len(request.history), history_length)),
            "log10_newest_age_s": math.log10(max(newest_s, 1.0)) if newest_s else None,
        }


def _of_history(request: Request, items: KnownItems, history_length: int) -> Iterable[dict[str, Any]]:
    for item_id, event in list(zip(request.history or (), request.events))[-history_length:]:
        yield {"domain": items.domains.get(item_id), "event": event, "known_as": items.known_as(item_id)}


def _of_list(request: Request, items: KnownItems) -> Iterable[dict[str, Any]]:
    for item_id in request.shown[:PLACES]:
        yield {
            "domain": items.domains.get(item_id),
            "known_as": items.known_as(item_id),
            "log2_times_taken": math.log2(1 + items.times_taken.get(item_id, 0)),
        }


def _statistics(rows: Iterable[dict[str, Any]]) -> Any:
    import pandas as pd
    import tensorflow_data_validation as tfdv

    table = pd.DataFrame(rows)
    return tfdv.generate_statistics_from_dataframe(table.dropna(axis=1, how="all")) if len(table) else None
