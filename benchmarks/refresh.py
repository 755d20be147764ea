"""A new item and a withdrawal at 100,000 items, through a running server: seconds until the next answer shows it.

Ours in the running server's memory; beside it what a server without that must do: load the whole version again. Cost:
some 3 minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

RUNS = 20
CASE = "100k"
NUM_ITEMS = 100_000
GOALS: list[dict[str, Any]] = [
    {"case": CASE, "metric": "add_to_searchable_s", "at_most": 1.0},
    {"case": CASE, "metric": "withdraw_to_gone_s", "at_most": 1.0},
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of evaluation.md; each run is one item, asked for until the answer is right. data_dir: ignored."""
    from benchmarks.serving.bench import first_request, model_of, served
    from serving.export.catalog_updates import AddedItem, CatalogUpdates, send
    from serving.export.validation import call_by_grpc

    rows = []
    for kind in ("exact", "scann"):
        folder, _ = model_of(NUM_ITEMS, kind)
        with served(folder) as address:
            call = call_by_grpc(folder.name, int(address.split(":")[1]))

            request = first_request(folder)
            taste = {name: request[name] for name in ("user_id", "history_ids", "history_events", "history_age_s")}
            query = call("encode_user", taste)["vector"][0]
            rng = np.random.default_rng(0)
            added, withdrawn = [], []
            for number in range(RUNS):
                vector = query + 0.01 * rng.normal(size=query.shape)  # what this person would like most
                item_id = f"new{number}"
                come, gone = CatalogUpdates(), CatalogUpdates()
                come.add({item_id: AddedItem((vector / np.linalg.norm(vector)).astype(np.float32))})
                gone.withdraw([item_id])
                added.append(
                    _seconds(partial(send, address, folder.name, come), partial(_shows, call, request, item_id, True))
                )
                withdrawn.append(
                    _seconds(partial(send, address, folder.name, gone), partial(_shows, call, request, item_id, False))
                )
        contender = "ours" if kind == "scann" else "ours, exact"
        rows += [_row(contender, "add_to_searchable_s", added), _row(contender, "withdraw_to_gone_s", withdrawn)]
        started = time.monotonic()
        with served(folder):
            rows.append(_row("a server that loads the version again", f"load_s, {kind}", [time.monotonic() - started]))
    return rows


def _seconds(act: Callable[[], None], is_so: Callable[[], bool]) -> float:
    started = time.monotonic()
    act()
    while not is_so():
        assert time.monotonic() - started < 30, "the change never showed"
    return time.monotonic() - started


def _shows(call: Any, request: dict[str, Any], item_id: str, wanted: bool) -> bool:
    return (item_id.encode() in call("recommend", request)["item_ids"][0].tolist()) == wanted


def _row(contender: str, metric: str, values: list[float]) -> dict[str, Any]:
    return {
        "case": CASE,
        "contender": contender,
        "metric": metric,
        "value": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "runs": len(values),
    }
