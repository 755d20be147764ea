"""What each part of the retrieval model is worth: ours without it, on the same split, with the interval of the paired
difference.

Cost on one core: about an hour; every run is kept and a second call goes on where the first stopped. Needs the stored
result of `bench quality`; the data: see `quality.loaders.WHAT_TO_GET`. The runs rank test pairs, so nothing here may
choose a setting.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.goals import check_cases
from benchmarks.quality.loaders import read_movielens
from benchmarks.quality.methods import Contender
from benchmarks.quality.ours import ours, score
from benchmarks.quality.splits import Split, matrix
from benchmarks.quality.stored import settings_of_ours

GOALS: list[dict[str, Any]] = []
RUNS = 3  # seeds of each variant
WHOLE, WITHOUT_CONTENT, ON_RATINGS = "whole", "without content", "loss: squared error of the ratings"
# Case -> variant -> settings that replace those of the case. A loss other than the profile's own knows no models side
# by side.
_ONE = {"num_submodels": 1, "embedding_dim": 129}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ML100K-R": {
        "one model instead of two side by side": _ONE,
        "without the item's gain": {"item_scale": False},
        "without the spectral start": {"svd_init": False},
        "plain scores (sharpness 1)": {"score_exponent": 1.0},
        "loss: full softmax": {**_ONE, "loss": "full_softmax"},
        "loss: sampled softmax": {**_ONE, "loss": "softmax"},
        "loss: sampled softmax without log-Q": {**_ONE, "loss": "softmax", "log_q": False},
        "loss: sampled softmax, 50 hard negatives": {**_ONE, "loss": "softmax", "hard_negatives": 50},
    },
    "ML100K-T": {
        "user tower: sequence": {"user_tower": "sequence"},
        "user tower: profile, full softmax": {"user_tower": "profile"},
        "user tower: profile, profile cosine": {"user_tower": "profile", "loss": "profile_cosine"},
        "without the spectral start": {"svd_init": False},
        "loss: sampled softmax": {"loss": "softmax"},
        ON_RATINGS: {"loss": "rating_mse"},
        "half-life of a target 30 days": {"half_life_days": 30.0},
        "a vector for each user": {"use_user_id": True},
    },
    "LFM": {WITHOUT_CONTENT: {}},
}


def run(data_dir: Path | None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of each variant and of its lead over the whole model."""
    from benchmarks.quality.bench import lead_rows, outcome_rows, run_contender, splits_of

    check_cases(cases, VARIANTS)
    rows: list[dict[str, Any]] = []
    for case, splits in splits_of(data_dir, cases or tuple(VARIANTS)):
        assert data_dir is not None, "splits_of refuses it"
        variants = [[whole(split), *variants_of(split, data_dir)] for split in splits]
        outcomes = {per_split[0].name: run_contender(list(zip(splits, per_split))) for per_split in zip(*variants)}
        for name, outcome in outcomes.items():
            rows += outcome_rows(case, name, outcome)
            if name != WHOLE:
                rows += lead_rows(case, name, outcome, outcomes[WHOLE], "above the whole")
    return rows


def whole(split: Split) -> Contender:
    """Ours with the settings that validation chose, so that nothing is chosen here."""
    grid = {name: (value,) for name, value in settings_of_ours(split.case).items()}
    return replace(ours(split), name=WHOLE, grid=grid, runs=RUNS)


def variants_of(split: Split, data_dir: Path) -> list[Contender]:
    """The whole with one thing changed, each."""
    base = whole(split)
    scores = {WITHOUT_CONTENT: functools.partial(score, {}, (), "")}
    if ON_RATINGS in VARIANTS[split.case]:
        users, items, ratings, _, shape = read_movielens(data_dir)
        scores[ON_RATINGS] = functools.partial(score, {}, (), "", ratings=matrix(users, items, shape, ratings))
    return [
        replace(
            base,
            name=name,
            score=scores.get(name, base.score),
            grid={**base.grid, **{knob: (value,) for knob, value in changed.items()}},
        )
        for name, changed in VARIANTS[split.case].items()
    ]
