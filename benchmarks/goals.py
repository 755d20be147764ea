"""Goals beside measured values: what a benchmark was to reach, and whether it did.

A goal is {"case", "metric", "at_least" or "at_most": number, "of": contender whose value the number multiplies, where
it is a ratio}. A row is {"case", "contender", "metric", "value", "low", "high", "runs"}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]


class Judgement(NamedTuple):
    """One goal of one case."""

    case: str
    metric: str
    value: float | None  # ours; None where it was not reached at all
    bound: str  # the goal in words, "≥ 0.29" or "≤ 1 × EASE"
    is_met: bool | None  # None where the peer of the goal was not run

    @property
    def verdict(self) -> str:
        """Met, missed, or that it cannot be told."""
        if self.is_met is None:
            return "peer not run"
        return "met" if self.is_met else "**missed**"


def row_of(case: str, contender: str, metric: str, *values: float | None) -> Row:
    """A row of one measurement, or of the mean of several; one may be None, that it does not exist."""
    mean = values[0] if len(values) == 1 else float(np.mean(np.array(values, float)))
    return {"case": case, "contender": contender, "metric": metric, "value": mean, "low": None, "high": None,
            "runs": len(values)}  # fmt: skip


def judged(goals: Sequence[dict[str, Any]], rows: Sequence[Row]) -> Iterator[Judgement]:
    """Each goal that has a row of ours, in the order of the goals."""
    for goal in goals:
        for row in rows:
            if row["contender"] == "ours" and (row["case"], row["metric"]) == (goal["case"], goal["metric"]):
                yield _judge(goal, row, rows)


def number(value: float | None) -> str:
    """A value with four significant digits, whole from a thousand on; a dash for what does not exist."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _judge(goal: dict[str, Any], row: Row, rows: Sequence[Row]) -> Judgement:
    sign, bound = ("≥", goal["at_least"]) if "at_least" in goal else ("≤", goal["at_most"])
    words, value = f"{sign} {number(bound)}", row["value"]
    if "of" in goal:
        words += f" × {goal['of']}"
        peers = [
            peer["value"]
            for peer in rows
            if peer["contender"].startswith(goal["of"])
            and (peer["case"], peer["metric"]) == (row["case"], row["metric"])
        ]
        if not peers:
            return Judgement(row["case"], row["metric"], value, words, None)
        if peers[0] is None or value is None:  # one of them never reached it
            return Judgement(row["case"], row["metric"], value, words, value is not None)
        bound *= peers[0]
    is_met = value is not None and (value >= bound if sign == "≥" else value <= bound)
    return Judgement(row["case"], row["metric"], value, words, is_met)
