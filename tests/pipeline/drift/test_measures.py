"""What is measured between two states of a world, and that a limit is told when it is exceeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from benchmarks import drift as bench
from pipeline.drift.check import Drift
from pipeline.drift.config import DriftConfig
from pipeline.drift.measures import Measure, compare, mean_shift, table_measures
from pipeline.drift.snapshot import CONTENT_DIM, Contents, Coverage, Snapshot


def contents(seed: int, mean: float = 100.0, spread: float = 10.0, items: int = 400) -> Contents:
    generator = np.random.default_rng(seed)
    values = generator.normal(mean, spread, (items, CONTENT_DIM)).astype(np.float32)
    return Contents([str(row) for row in range(items)], ["music"] * items, values, np.ones(items, np.int64))


def test_the_shift_is_in_standard_deviations() -> None:
    """A mean that moves by 15 where items spread by 10 has moved by 1.5; the same items have not moved at all."""
    assert mean_shift(contents(0), contents(1, mean=115.0), is_weighted=False) == pytest.approx(1.5, abs=0.1)
    assert mean_shift(contents(0), contents(0), is_weighted=False) == 0


def test_what_is_taken_moves_though_the_catalog_stays() -> None:
    before = contents(0)
    loud = before.values.mean(1) > before.values.mean()
    after = replace(before, interactions=np.where(loud, 9, 1))
    assert mean_shift(before, after, is_weighted=False) == 0
    assert mean_shift(before, after, is_weighted=True) > 0.05


def test_an_item_without_sound_says_nothing_of_the_sound() -> None:
    before, after = contents(0), contents(0)
    after.values[:100] = np.nan
    whole = replace(before, values=before.values[100:], interactions=before.interactions[100:])
    assert mean_shift(whole, after, is_weighted=False) == 0


def test_too_few_items_with_content_are_no_measure() -> None:
    few = contents(0, items=5)
    assert np.isnan(mean_shift(few, few, is_weighted=False))


def statistics(kinds: list[str], values: np.ndarray):
    rows = len(values)
    table = {"event": np.resize(kinds, rows), "value": values, "user_id": [f"u{row}" for row in range(rows)]}
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(table))


def test_tfdv_tells_the_change_of_a_share_and_of_a_number_and_leaves_ids_alone() -> None:
    generator = np.random.default_rng(0)
    before = statistics(["play", "like"], generator.normal(3, 1, 2000))
    after = statistics(["play", "play", "play", "like"], generator.normal(6, 1, 2000))
    found = {one.name: one for one in table_measures("events", before, after, DriftConfig())}
    assert found["events: event"].value == pytest.approx(0.25) and found["events: event"].is_exceeded
    assert found["events: value"].value > 0.5 and set(found) == {"events: event", "events: value"}


def test_lists_and_popularity_are_compared() -> None:
    flat, steep = np.array([5, 5, 5, 5]), np.array([20, 1, 1, 0])
    before, after = (
        Snapshot("a", {}, None, flat, Coverage(0.9, 100)),
        Snapshot("b", {}, None, steep, Coverage(0.5, 95)),
    )
    found = compare(before, after, DriftConfig())
    assert {one.name: round(one.value, 3) for one in found if one.is_exceeded} == {
        "concentration of popularity": 0.576,
        "share of cold items": 0.25,
        "coverage of the lists": 0.4,
    }


def test_more_people_who_are_shown_more_are_no_drift() -> None:
    before, after = (Snapshot("a", {}, None, None, Coverage(*one)) for one in ((0.3, 100), (0.9, 200)))
    assert compare(before, after, DriftConfig()) == compare(after, before, DriftConfig()) == []


def test_what_is_beyond_its_limit_is_told_the_farthest_first() -> None:
    drift = Drift("r1", [Measure("a", 0.1, 0.2), Measure("b", 0.3, 0.2), Measure("c", 0.9, 0.2)])
    assert drift.lines() == [
        "c has moved by 0.9 since run r1 (limit 0.2)",
        "b has moved by 0.3 since run r1 (limit 0.2)",
    ]


@pytest.mark.parametrize("seed", [100, 101, 102])
def test_a_world_that_moves_is_told_and_one_that_stays_is_not(seed: int) -> None:
    moved = {measure.name for measure in bench.measured("moves", seed) if measure.is_exceeded}
    assert {"content of the catalog", "content of what is taken"} <= moved
    assert not [measure for measure in bench.measured("stays", seed) if measure.is_exceeded]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_limit_is_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="max_taste_shift"):
        DriftConfig(max_taste_shift=value)
