"""The neural peers, as RecBole and RecTools have them: stopped where validation says, with an equal budget of processor
seconds or without one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.quality import environments
from benchmarks.quality.methods import SEEDS, Contender, Scored, budget_s
from benchmarks.quality.splits import Split, Stage

# Environment -> model -> setting -> values, set by hand.
GENERAL: dict[str, dict[str, dict[str, Any]]] = {
    "neural": {
        "BPR": {"embedding_size": (64,), "learning_rate": (0.001, 0.0005)},
        "LightGCN": {"embedding_size": (64,), "n_layers": (2, 3), "learning_rate": (0.002,), "reg_weight": (1e-4,)},
        "SimpleX": {
            "embedding_size": (64,),
            "margin": (0.9, 0.5),
            "negative_weight": (10.0,),
            "learning_rate": (0.001,),
            "sample_num": (100, 1),
        },
    },
}
SEQUENTIAL: dict[str, dict[str, dict[str, Any]]] = {
    "sequential": {
        "SASRec": {"n_factors": (64,), "n_heads": (1,), "session_max_len": (100,), "lr": (0.001,), "batch_size": (32,)},
        "BERT4Rec": {
            "n_factors": (64,),
            "n_heads": (2,),
            "session_max_len": (100,),
            "lr": (0.001,),
            "batch_size": (32,),
        },
    },
    "neural": {"GRU4Rec": {"learning_rate": (0.001,)}},
}
TO_THE_END = "to the end"
LIBRARIES = {"neural": ("RecBole", "recbole"), "sequential": ("RecTools", r"rectools[torch]")}


def neural_peers(split: Split) -> list[Contender]:
    """Those that read a history in its order where the protocol has one, else a set; the tutorial's case has its own
    peer."""
    if split.case.startswith("TFRS-A"):
        return []
    models = GENERAL if split.test.times_s is None else SEQUENTIAL
    return [
        Contender(
            f"{name} ({LIBRARIES[environment][0]} {environments.version(environment, LIBRARIES[environment][1])})",
            functools.partial(score_neural, environment, name, split.metrics[0], budget_s(split.case)),
            grid,
            modules=(__name__,),
            environment=environment,
            stops_early=True,
        )
        for environment, of_library in models.items()
        for name, grid in of_library.items()
    ]


def to_the_end(split: Split, chosen: Mapping[str, Mapping[str, Any]]) -> list[Contender]:
    """The same peers without a budget: a validation that has stopped to rise gives the epochs, three seeds are then
    trained for so many.

    chosen: name of a peer -> the settings that validation chose under the budget; others are left out.
    """
    return [
        replace(
            peer,
            name=f"{peer.name[:-1]}, {TO_THE_END})",
            score=functools.partial(score_to_the_end, peer.score),
            grid={knob: (value,) for knob, value in chosen[peer.name].items() if knob != "epochs"},
            runs=SEEDS,
            to_the_end=True,
        )
        for peer in neural_peers(split)
        if peer.name in chosen
    ]


def score_to_the_end(score: Any, stage: Stage, settings: Mapping[str, Any], seed: int) -> Scored:
    """One fit of a peer; where the settings hold the epochs, nothing is watched any more."""
    return score(replace(stage, watch=None) if "epochs" in settings else stage, settings, seed)


def score_neural(
    environment: str, name: str, metric: str, budget: float, stage: Stage, settings: Mapping[str, Any], seed: int
) -> Scored:
    """One fit. Where the stage has pairs to watch, they say when to stop; else the settings hold the epochs that
    validation found.

    budget: processor seconds, where the settings have no `budget_s`.
    """
    own = {"model": name, "metric": metric, "budget_s": budget, **settings}
    if stage.watch is not None:
        own.pop("epochs", None)
    return environments.score_in(environment, stage, own, seed)
