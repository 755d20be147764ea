"""The neural peers, as RecBole has them: an equal budget of processor seconds for every fit, stopped where validation says."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from benchmarks.quality import environments
from benchmarks.quality.contenders import Contender, Scored
from benchmarks.quality.splits import Split, Stage

BUDGET_S = {"ML1M-U": 900.0}  # processor seconds of one fit, one thread
BUDGET_ELSEWHERE_S = 300.0
GENERAL: dict[str, dict[str, Any]] = {
    "BPR": {"embedding_size": (64,), "learning_rate": (0.0005, 0.002)},
    "LightGCN": {"embedding_size": (64,), "n_layers": (2, 3), "learning_rate": (0.005,), "reg_weight": (1e-4,)},
    "SimpleX": {"embedding_size": (64,), "margin": (0.5, 0.9), "negative_weight": (10.0,), "learning_rate": (0.001,)},
}
SEQUENTIAL: dict[str, dict[str, Any]] = {
    "SASRec": {"hidden_dropout_prob": (0.2,), "attn_dropout_prob": (0.2,)},
    "BERT4Rec": {"mask_ratio": (0.2,)},
    "GRU4Rec": {"learning_rate": (0.002,)},
}


def neural_peers(split: Split) -> list[Contender]:
    """Those that read a history in its order where the protocol has one, else those that read a set."""
    models = GENERAL if split.test.times_s is None else SEQUENTIAL
    budget_s = BUDGET_S.get(split.case, BUDGET_ELSEWHERE_S)
    library = environments.version("neural", "recbole")
    return [
        Contender(
            f"{name} (RecBole {library})",
            functools.partial(score_neural, name, split.metrics[0], budget_s),
            grid,
            code=("benchmarks/quality/neural.py", *environments.code("neural")),
            stops_early=True,
        )
        for name, grid in models.items()
    ]


def score_neural(name: str, metric: str, budget_s: float, stage: Stage, settings: Mapping[str, Any], seed: int) -> Scored:
    """One fit. Where the stage has pairs to watch, they say when to stop; else the settings hold the epochs that validation found."""
    own = {"model": name, "metric": metric, "budget_s": budget_s, **settings}
    if stage.watch is not None:
        own.pop("epochs", None)
    return environments.score_in("neural", stage, own, seed)
