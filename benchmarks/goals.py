"""Goals beside measured values: what a benchmark was to reach, and whether it did.

A goal is {"case", "metric", "at_least" or "at_most": number, "of": contender whose value the number multiplies, where
it is a ratio, "by": "low" where the lower end of ours has to reach it}. A row is {"case", "contender", "metric",
"value", "low", "high", "runs"}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from components.settings import SettingsError

Row = dict[str, Any]
LOWER_END, NOT_RUN = ", by the lower end", "not run"


class Judgement(NamedTuple):
    """One goal of one case."""

    case: str
    metric: str
    value: float | None  # ours; None where it was not reached at all
    bound: str  # the goal in words, "≥ 0.29" or "≤ 1 × EASE"
    is_met: bool | None  # None where ours or the peer of the goal was not run
    missing: str = ""  # what was not run

    @property
    def verdict(self) -> str:
        """Met, missed, or that it cannot be told."""
        if self.is_met is None:
            return self.missing
        return "met" if self.is_met else "**missed**"


def check_cases(asked: Iterable[str], known: Iterable[str]) -> None:
    """Raises SettingsError where a case is asked for that a benchmark does not have."""
    if unknown := set(asked) - {*known}:
        raise SettingsError(f"--case: got {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")


def row_of(case: str, contender: str, metric: str, *values: float | None) -> Row:
    """A row of one measurement, or of the mean of several; one may be None, that it does not exist."""
    mean = values[0] if len(values) == 1 else float(np.mean(np.array(values, float)))
    return {"case": case, "contender": contender, "metric": metric, "value": mean, "low": None, "high": None,
            "runs": len(values)}  # fmt: skip


def judged(goals: Sequence[dict[str, Any]], rows: Sequence[Row]) -> Iterator[Judgement]:
    """Each goal, in their order. Raises ValueError where a goal's peer can be one of several contenders."""
    for goal in goals:
        own = [row for row in rows if row["contender"] == "ours" and _is_of(goal, row)]
        if not own:
            yield Judgement(goal["case"], goal["metric"], None, _words(goal), None, NOT_RUN)
        for row in own:
            yield _judge(goal, row, rows)


def number(value: float | None) -> str:
    """A value with four significant digits, whole from a thousand on; a dash for what does not exist."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _judge(goal: dict[str, Any], row: Row, rows: Sequence[Row]) -> Judgement:
    bound, value, words = goal.get("at_least", goal.get("at_most")), row["value"], _words(goal)
    at = row["low"] if goal.get("by") == "low" else None  # what is compared, where it is not the value
    if "of" in goal:
        peer = _peer(goal, rows)
        if peer is None:
            return Judgement(row["case"], row["metric"], value, words, None, "peer not run")
        words = _words(goal | {"of": peer["contender"]})
        if peer["value"] is None or value is None:  # one of them never reached it
            return Judgement(row["case"], row["metric"], value, words, value is not None)
        bound *= peer["value"]
        lead = _lead(goal, peer, rows)
        if lead is not None and "at_least" in goal:
            at = peer["value"] + lead["low"]
    if at is not None:
        words += LOWER_END
    at = value if at is None else at
    is_met = at is not None and (at >= bound if "at_least" in goal else at <= bound)
    return Judgement(row["case"], row["metric"], value, words, is_met)


def _words(goal: dict[str, Any]) -> str:
    bound = f"≥ {number(goal['at_least'])}" if "at_least" in goal else f"≤ {number(goal['at_most'])}"
    return f"{bound} × {goal['of']}" if "of" in goal else bound


def _peer(goal: dict[str, Any], rows: Sequence[Row]) -> Row | None:
    """The row of the contender of that name, behind which a version or something in brackets may stand."""
    name = re.compile(re.escape(goal["of"]) + r"( \d\S*| \(.*\))?")
    found = [row for row in rows if _is_of(goal, row) and name.fullmatch(row["contender"])]
    if len(found) > 1:
        names = ", ".join(row["contender"] for row in found)
        raise ValueError(
            f"goal of {goal['case']}, {goal['metric']}: {goal['of']!r} can be any of {names}; name one of them"
        )
    return found[0] if found else None


def _lead(goal: dict[str, Any], peer: Row, rows: Sequence[Row]) -> Row | None:
    """The row of the paired difference between ours and the peer, where it was measured."""
    metric = goal["metric"]
    names = {("ours", f"{metric} above {goal['of']}"), (f"ours minus {peer['contender']}", metric)}
    found = (row for row in rows if row["case"] == goal["case"] and (row["contender"], row["metric"]) in names)
    return next((row for row in found if row["low"] is not None), None)


def _is_of(goal: dict[str, Any], row: Row) -> bool:
    return (row["case"], row["metric"]) == (goal["case"], goal["metric"])
