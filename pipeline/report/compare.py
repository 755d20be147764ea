"""Two runs side by side: each number of both and the difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.report.facts import Facts, numbers
from pipeline.report.quality import Interval


@dataclass(frozen=True)
class Difference:
    """One number of two runs; None where a run has it not."""

    name: str
    first: float | None
    second: float | None

    @property
    def change(self) -> float | None:
        """The second less the first."""
        return None if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True)
class IntervalRow:
    """The deciding metric of two runs in one slice."""

    slice_name: str
    first: Interval
    second: Interval

    @property
    def highest(self) -> float:
        """The right end of both."""
        return max(each.value if each.high is None else each.high for each in (self.first, self.second))

    @property
    def is_clear(self) -> bool:
        """Whether the intervals do not overlap."""
        a, b = self.first, self.second
        if a.low is None or a.high is None or b.low is None or b.high is None:
            return False
        return a.high < b.low or b.high < a.low


@dataclass(frozen=True)
class Comparison:
    """Two runs, the second beside the first."""

    first: Facts
    second: Facts

    @property
    def groups(self) -> dict[str, list[Difference]]:
        """The numbers by what they speak of: test, ranker, index, data, seconds."""
        before, after = numbers(self.first), numbers(self.second)
        found: dict[str, list[Difference]] = {}
        for name in [*before, *(name for name in after if name not in before)]:
            group, _, rest = name.partition("/")
            found.setdefault(group, []).append(Difference(rest, before.get(name), after.get(name)))
        return found

    @property
    def has_same_data(self) -> bool:
        """Whether both were judged by the same people and truth."""
        first, second = self.first.quality, self.second.quality
        return first is not None and second is not None and first.data == second.data


def interval_rows(comparison: Comparison) -> list[IntervalRow]:
    """The deciding metric of both runs, for every slice that both have."""
    return list(_interval_rows(comparison))


def _interval_rows(comparison: Comparison) -> Iterator[IntervalRow]:
    first, second = comparison.first.quality, comparison.second.quality
    if first is None or second is None:
        return
    of_second = {part.name: part for part in second.slices}
    for part in first.slices:
        other = of_second.get(part.name)
        a = part.methods.get("ours", {}).get(second.metric)
        b = other.methods.get("ours", {}).get(second.metric) if other else None
        if a and b:
            yield IntervalRow(part.name, a, b)
