"""How many processor seconds of training each contender needs to be as good on validation as the best of the linear
peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.goals import row_of

LINEAR = ("ItemKNN", "EASE", "iALS")
METRIC = "cpu_seconds_to_best_linear"


def rows(case: str, outcomes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """outcomes: contender -> `bench.Outcome` with traces. The value is None where a contender never gets there.

    The seconds of a contender that looks at validation on its way are those of training until the look; of another, its
    whole fit.
    """
    traces = {name: outcome.traces[0] for name, outcome in outcomes.items()}
    bounds = {name: trace[:, 2].max() for name, trace in traces.items() if name.startswith(LINEAR)}
    best = max(bounds, key=lambda name: bounds[name])
    found: list[tuple[str, str, float | None, str]]
    found = [(f"best linear ({best})", "validation quality", float(bounds[best]), best)]
    found += [(name, METRIC, seconds_to(trace, bounds[best]), name) for name, trace in traces.items()]
    return [
        row_of(case, contender, metric, value) | {"commit": outcomes[name].commit}
        for contender, metric, value, name in found
    ]


def seconds_to(trace: np.ndarray, bound: float) -> float | None:
    """The first seconds at which the value is at least the bound. trace: float [L, 3] of seconds, epoch and value."""
    reached = np.flatnonzero(trace[:, 2] >= bound)
    return float(trace[reached[0], 0]) if len(reached) else None
