"""The ranker beside its peers, what diversity and exploration do to the lists, and whether explanations name what is
true.

Reads the artifacts of finished runs: `./zhiyin demo`, and `./zhiyin data movielens-100k` with `./zhiyin run --config
configs/movielens_100k.yaml`. About a quarter of an hour of one core; cases can be run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.goals import check_cases

DEMO, MOVIELENS, EXPOSURE, EXPLANATIONS = "demo", "movielens-100k", "exposure", "explanations"
CONFIGS = {DEMO: "configs/demo.yaml", MOVIELENS: "configs/movielens_100k.yaml"}
MAX_ECE = 0.02
RANDOM_REASONS = "random interactions"  # of the same history: they are of the person's taste, too
GOALS: list[dict[str, Any]] = [
    goal
    for case in CONFIGS
    for goal in (
        {"case": case, "metric": "AUC", "at_least": 1.0, "of": "logistic regression"},
        {"case": case, "metric": "AUC", "at_least": 1.0, "of": "FM"},
        {"case": case, "metric": "ECE", "at_most": MAX_ECE},
        {"case": case, "metric": "NDCG@10 gain, lower end", "at_least": 0.0},
    )
] + [
    {"case": EXPLANATIONS, "metric": metric, "at_least": 1.0, "of": RANDOM_REASONS, "by": "low"}
    for metric in ("true trait shared", "true trait among 3 named")
]


def run(data_dir: Path | None, cases: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of evaluation.md. data_dir: ignored. Raises SettingsError where a run has not finished."""
    from benchmarks.ranking import explanations, exposure, rankers

    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        **{case: partial(rankers.compare, case, Path(path)) for case, path in CONFIGS.items()},
        EXPOSURE: lambda: exposure.report(EXPOSURE, Path(CONFIGS[DEMO])),
        EXPLANATIONS: lambda: explanations.report(EXPLANATIONS, Path(CONFIGS[DEMO])),
    }
    check_cases(cases, parts)
    return [row for case in cases or parts for row in parts[case]()]


def row(
    case: str, contender: str, metric: str, value: float, interval: tuple[float, float] | None = None, runs: int = 1
) -> dict[str, Any]:
    """A row of the results."""
    low, high = interval or (None, None)
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "runs": runs,
    }
