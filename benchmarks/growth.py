"""How the cost of one fit grows with events and with items: ML1M-U thinned out, ours beside EASE and iALS, settings as
in `quality`.

Cost on one core: about 15 minutes. The data: see `quality.loaders.WHAT_TO_GET`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.quality import bench
from benchmarks.quality.methods import peers_for
from benchmarks.quality.ours import ours
from benchmarks.quality.splits import Split, Stage
from benchmarks.quality.stored import settings_of_ours

GOALS: list[dict[str, Any]] = [
    {"case": "events_100", "metric": "cpu_seconds", "at_most": 15.0},
    {"case": "events_100", "metric": "peak_mb", "at_most": 1200.0},
]
CASE = "ML1M-U"
PERCENTS = (10, 30, 100)
PEERS = ("EASE", "iALS")
COSTS = ("seconds", "cpu_seconds", "peak_mb")


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of every part and contender. Raises as `quality.bench.run_cases`."""
    ((_, (split,)),) = bench.splits_of(data_dir, (CASE,))
    rows = []
    for axis, thinned in (("events", with_events), ("items", with_items)):
        for percent in PERCENTS:
            stage = thinned(split.test, percent / 100)
            rows += [row for contender in contenders(split) for row in costs_of(f"{axis}_{percent}", contender, stage)]
    return rows


def contenders(split: Split) -> list[Any]:
    """Ours and the peers that `quality` also fits on this case."""
    return [ours(split), *(peer for peer in peers_for(split) if peer.name.startswith(PEERS))]


def costs_of(case: str, contender: Any, stage: Stage) -> list[dict[str, Any]]:
    """One fit and one scoring, in a process of its own."""
    settings = settings_of_ours(CASE) if contender.name == bench.OURS else contender.trials()[0]
    _, costs = bench.in_own_process(bench.timed, contender, stage, settings, 0)
    pairs = {"events": stage.train.nnz, "items": stage.train.shape[1]}
    values = {**{cost: costs[cost] for cost in COSTS}, **pairs}
    return [bench.row_of(case, contender.name, name, float(value), 1) for name, value in values.items()]


def with_events(stage: Stage, share: float) -> Stage:
    """A share of the training pairs at random, over the same users and items."""
    pairs = stage.train.tocoo()
    kept = np.sort(np.random.default_rng(0).permutation(pairs.nnz)[: round(share * pairs.nnz)])
    train = sp.csr_matrix((pairs.data[kept], (pairs.row[kept], pairs.col[kept])), pairs.shape)
    return dataclasses.replace(stage, train=train, history=train, hidden=train)


def with_items(stage: Stage, share: float) -> Stage:
    """A share of the items at random, with all of their pairs."""
    num_items = stage.train.shape[1]
    kept = np.sort(np.random.default_rng(0).permutation(num_items)[: round(share * num_items)])
    train, truth = (sp.csr_matrix(pairs[:, kept]) for pairs in (stage.train, stage.truth))
    return dataclasses.replace(
        stage, train=train, history=train, hidden=train, truth=truth, candidates=stage.candidates[kept]
    )
