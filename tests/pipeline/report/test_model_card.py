"""The model card says what the facts say, known misses among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.report.facts import Facts
from pipeline.report.model_card import known_misses, write_model_card
from pipeline.report.quality import Interval, Slice
from pipeline.report.ranker import Objective, Ranker


def card(facts: Facts, folder: Path) -> str:
    return write_model_card(facts, folder / "model_card.md").read_text(encoding="utf-8")


def with_slice(facts: Facts, part: Slice) -> Facts:
    return replace(facts, quality=replace(facts.quality, slices=[part]))


def test_each_slice_stands_beside_the_best_other_method(facts: Facts, tmp_path: Path) -> None:
    text = card(facts, tmp_path)
    assert "| warm items | 40 | 0.25 | 0.23 – 0.27 | popularity | 0.1 |" in text
    assert "pushed as version 2" in text and "| catalog | 13 | 12 | 1 |" in text


def test_a_method_that_is_better_is_a_known_miss(facts: Facts) -> None:
    methods = {
        "ours": {"NDCG@10": Interval(0.2, 0.18, 0.22)},
        "item_knn": {"NDCG@10": Interval(0.3, 0.28, 0.32)},
        "text_knn": {"NDCG@10": Interval(0.21, 0.19, 0.23)},
        "random": {"NDCG@10": Interval(0.01, 0.0, 0.02)},
    }
    misses = list(known_misses(with_slice(facts, Slice("warm items", 400, methods))))
    assert misses[:2] == [
        "warm items: item_knn is better than the model, clearly (NDCG@10 0.3 beside 0.2).",
        "warm items: text_knn is better than the model, within the intervals (NDCG@10 0.21 beside 0.2).",
    ]
    assert not any("random" in miss for miss in misses)


def test_probabilities_that_are_off_are_a_known_miss(facts: Facts) -> None:
    objectives = [Objective(name, 0.8, 0.2, off, [], {}) for name, off in (("play", 1.8), ("like", 1.1))]
    misses = list(known_misses(replace(facts, ranker=Ranker(True, "blessed", objectives))))
    assert [miss for miss in misses if "Probabilities" in miss] == [
        "Probabilities of play are 1.8 times what is observed on the test split: they order items, and are no forecast."
    ]


def test_the_guarantee_stands_in_the_card_where_there_is_one(facts: Facts, tmp_path: Path) -> None:
    assert "without differential privacy" in card(facts, tmp_path)
    privacy = {"epsilon": 4.0, "delta": 1e-5, "noise_multiplier": 1.1, "clip": 1.0, "sampling_rate": 0.05, "steps": 99}
    text = card(replace(facts, privacy=privacy | {"people": 500}), tmp_path)
    assert "(4, 1e-05)-differentially private" in text
    assert "nothing is guaranteed" in card(replace(facts, privacy=privacy | {"people": 5, "epsilon": None}), tmp_path)


def test_text_of_the_data_cannot_break_the_card(facts: Facts, tmp_path: Path) -> None:
    methods = {"ours": {"NDCG@10": Interval(0.2, 0.1, 0.3)}}
    text = card(with_slice(facts, Slice("domain a|b\n# <b>", 400, methods)), tmp_path)
    assert r"| domain a\|b # \<b\> | 400 |" in text
