"""Measures how far two runs are apart, and says which limits are exceeded.

Tables are compared by TFDV's drift comparators (Breck et al., 2019); contents by the standardised difference of means
(Cohen, 1988), lists and popularity by the change of a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.drift.config import DriftConfig
from pipeline.drift.snapshot import Contents, Snapshot
from trainer.evaluation.metrics import gini

FEW_VALUES = (
    0.5  # a text column with more distinct values than this share of its rows names things, and is not compared
)
NOT_COMPARED = ("timestamp", "published_at", "source_file", "source_line")  # they move in every world
MIN_ITEMS = 20  # with fewer the mean of their content says nothing
MOST_PEOPLE_APART = 0.1  # share of the people: beyond it, how much of the catalog they are shown is not compared


@dataclass(frozen=True)
class Measure:
    """One number of how far two runs are apart."""

    name: str  # of what
    value: float
    limit: float

    @property
    def is_exceeded(self) -> bool:
        """Whether the world has moved by this measure."""
        return self.value > self.limit


def beyond_limit(measures: Iterable[Measure]) -> list[Measure]:
    """Those that are exceeded, the farthest beyond its limit first."""
    return sorted((one for one in measures if one.is_exceeded), key=lambda measure: measure.limit / measure.value)


class Compared:
    """Two things that were compared by measures."""

    measures: list[Measure]

    @property
    def exceeded(self) -> list[Measure]:
        """What is beyond its limit, the farthest beyond first."""
        return beyond_limit(self.measures)


def compare(previous: Snapshot, current: Snapshot, limits: DriftConfig) -> list[Measure]:
    """Every measure that both snapshots allow."""
    return [
        *_tables(previous, current, limits),
        *_content_measures(previous.contents, current.contents, limits),
        *_popularity_measures(previous, current, limits),
    ]


def mean_shift(previous: Contents, current: Contents, is_weighted: bool) -> float:
    """How far the mean content has moved: the root mean square, over dimensions, of the shift in standard deviations.

    is_weighted: each item counts as often as it was taken. NaN where too few items have content.
    """
    shifts = []
    for column in range(previous.values.shape[1]):
        sides = [_moments(one, column, is_weighted) for one in (previous, current)]
        if all(side is not None for side in sides):
            (mean_a, variance_a), (mean_b, variance_b) = sides  # type: ignore[misc]
            shifts.append((mean_a - mean_b) ** 2 / max((variance_a + variance_b) / 2, 1e-6))
    return float(np.sqrt(np.mean(shifts))) if shifts else float("nan")


def _moments(contents: Contents, column: int, is_weighted: bool) -> tuple[float, float] | None:
    values = contents.values[:, column].astype(np.float64)
    there = ~np.isnan(values)
    weights = contents.interactions[: len(values)].astype(np.float64) if is_weighted else np.ones(len(values))
    if there.sum() < MIN_ITEMS or not weights[there].sum():
        return None
    mean = float(np.average(values[there], weights=weights[there]))
    return mean, float(values[there].var())


def _tables(previous: Snapshot, current: Snapshot, limits: DriftConfig) -> Iterator[Measure]:
    for table, statistics in current.statistics.items():
        if table in previous.statistics:
            yield from table_measures(table, previous.statistics[table], statistics, limits)


def table_measures(table: str, previous: Any, current: Any, limits: DriftConfig) -> Iterator[Measure]:
    """Each comparable column of a table by TFDV. previous, current: DatasetFeatureStatisticsList."""
    return tfdv_measures(table, previous, current, "drift", limits.max_category_change, limits.max_number_divergence)


def tfdv_measures(
    table: str, reference: Any, current: Any, kind: Literal["drift", "skew"], category_limit: float, number_limit: float
) -> Iterator[Measure]:
    """Each column that two tables have, by TFDV's drift or skew comparator: L-infinity distance of texts,
    Jensen-Shannon divergence of numbers. reference, current: DatasetFeatureStatisticsList.
    """
    import tensorflow_data_validation as tfdv

    schema = tfdv.infer_schema(current)
    compared = _comparable(reference) & _comparable(current)
    for feature in schema.feature:
        if feature.name in compared:
            comparator = feature.drift_comparator if kind == "drift" else feature.skew_comparator
            if feature.type == _bytes_type():
                comparator.infinity_norm.threshold = category_limit
            else:
                comparator.jensen_shannon_divergence.threshold = number_limit
    if kind == "drift":
        found = tfdv.validate_statistics(current, schema, previous_statistics=reference)
    else:
        found = tfdv.validate_statistics(reference, schema, serving_statistics=current)
    for info in found.drift_skew_info:
        for measurement in info.drift_measurements if kind == "drift" else info.skew_measurements:
            yield Measure(f"{table}: {info.path.step[0]}", measurement.value, measurement.threshold)


def _bytes_type() -> int:
    from tensorflow_metadata.proto.v0 import schema_pb2

    return schema_pb2.BYTES


def _comparable(statistics: Any) -> set[str]:
    """The columns whose distribution says something: no ids, no free text, no times."""
    (dataset,) = statistics.datasets
    found = set()
    for feature in dataset.features:
        name = feature.path.step[0]
        values = getattr(feature, feature.WhichOneof("stats")).common_stats.tot_num_values
        is_name = feature.HasField("string_stats") and feature.string_stats.unique > FEW_VALUES * values
        if values and not is_name and not name.endswith("_id") and name not in NOT_COMPARED:
            found.add(name)
    return found


def _content_measures(previous: Contents | None, current: Contents | None, limits: DriftConfig) -> Iterator[Measure]:
    if previous is None or current is None:
        return
    for name, is_weighted, limit in (
        ("content of the catalog", False, limits.max_content_shift),
        ("content of what is taken", True, limits.max_taste_shift),
    ):
        shift = mean_shift(previous, current, is_weighted)
        if not np.isnan(shift):
            yield Measure(name, shift, limit)
    shares = [_domain_shares(one) for one in (previous, current)]
    domains = shares[0].keys() | shares[1].keys()
    if all(shares) and len(domains) > 1:
        change = max(abs(shares[0].get(domain, 0.0) - shares[1].get(domain, 0.0)) for domain in domains)
        yield Measure("domains of what is taken", change, limits.max_domain_change)


def _domain_shares(contents: Contents) -> dict[str, float]:
    """The share of the interactions of each domain; empty where nothing was taken."""
    total = contents.interactions.sum()
    names, rows = np.unique(contents.domains, return_inverse=True)
    counts = np.bincount(rows, weights=contents.interactions, minlength=len(names))
    return dict(zip(names.tolist(), (counts / total).tolist())) if total else {}


def _popularity_measures(previous: Snapshot, current: Snapshot, limits: DriftConfig) -> Iterator[Measure]:
    before, after = previous.interactions, current.interactions
    if before is not None and after is not None:
        change = abs(gini(before[before > 0]) - gini(after[after > 0]))
        if not np.isnan(change):  # nothing was taken in one of them
            yield Measure("concentration of popularity", change, limits.max_popularity_change)
        cold = [float((counts == 0).mean()) for counts in (before, after)]
        yield Measure("share of cold items", abs(cold[0] - cold[1]), limits.max_cold_change)
    if previous.coverage is not None and current.coverage is not None:
        people = sorted((previous.coverage.people, current.coverage.people))
        if people[0] >= (1 - MOST_PEOPLE_APART) * people[1]:
            change = abs(previous.coverage.share - current.coverage.share)
            yield Measure("coverage of the lists", change, limits.max_coverage_change)
