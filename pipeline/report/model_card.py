"""Writes a model card (Mitchell et al., 2019) from the facts of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.report.facts import Facts
from pipeline.report.page import number, write_template
from pipeline.report.quality import Interval, Quality, Slice
from pipeline.report.ranker import Ranker

FEW_PEOPLE = 100  # below it a slice's number is told to be unsure
CALIBRATED = (0.8, 1.25)  # mean probability over share of positives that needs no remark


def write_model_card(facts: Facts, path: Path) -> Path:
    """Write the model card of a run that trained, whole or not at all; returns the file."""
    return write_template("model_card.md", path, facts=facts, misses=list(known_misses(facts)))


def known_misses(facts: Facts) -> Iterator[str]:
    """Where the model is known to fall short, a sentence each."""
    if facts.quality:
        yield from _misses_of_lists(facts.quality)
    if facts.ranker:
        yield from _misses_of_ranker(facts.ranker)
    missing = [column for column in facts.health.columns if column.table == "catalog" and column.missing]
    if missing:
        said = ", ".join(f"{column.name} {number(column.missing)}" for column in missing)
        yield f"Items without a value, which the model knows less of (of {number(missing[0].rows)}): {said}."
    if facts.health.num_rejects:
        yield f"{number(facts.health.num_rejects)} rows or media files could not be used and are no part of it."


def _misses_of_lists(quality: Quality) -> Iterator[str]:
    for part in quality.slices:
        ours = part.methods.get("ours", {}).get(quality.metric)
        if ours is None:
            continue
        for name, better in _better_than(ours, part, quality.metric):
            clear = "clearly" if _apart(ours, better) else "within the intervals"
            yield (
                f"{part.name}: {name} is better than the model, {clear} "
                f"({quality.metric} {number(better.value)} beside {number(ours.value)})."
            )
        if part.users < FEW_PEOPLE:
            yield f"{part.name}: judged by {number(part.users)} people only, so its number is unsure."
    if quality.users_without_truth:
        yield f"{number(quality.users_without_truth)} people had nothing to find and are judged by nothing."


def _better_than(ours: Interval, part: Slice, metric: str) -> Iterator[tuple[str, Interval]]:
    """The methods whose number is above ours, with it."""
    for name, values in part.methods.items():
        if name != "ours" and metric in values and values[metric].value > ours.value:
            yield name, values[metric]


def _apart(lower: Interval, higher: Interval) -> bool:
    return lower.high is not None and higher.low is not None and lower.high < higher.low


def _misses_of_ranker(ranker: Ranker) -> Iterator[str]:
    if not ranker.is_blessed:
        yield "The ranker was not blessed: items stay in the order of retrieval."
    for one in ranker.objectives:
        if not CALIBRATED[0] <= one.calibration <= CALIBRATED[1]:  # undefined is told too
            yield (
                f"Probabilities of {one.name} are {number(one.calibration)} times what is observed on the test split: "
                "they order items, and are no forecast."
            )
