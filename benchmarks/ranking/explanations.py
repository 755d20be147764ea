"""Whether the reasons that `explain` gives name what is true, in the demo world, which knows why people choose.

The true reason of an answer is the trait that adds most to the person's affinity for the item. An interaction shares it
where its item lies on the same side of the mean as the recommended one, by half a standard deviation or more. Reasons
are the three interactions with the largest parts; beside them three drawn from the same history, which is of the
person's taste too, and three of the whole catalogue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ranking import RANDOM_REASONS, row
from pipeline import config as configuration
from pipeline.local_model import CurrentModel
from pipeline.sources.demo.ground_truth import Truth, load_truth

ANSWERS, REASONS, TRAITS = 200, 3, 3
CLEAR = 0.5  # standard deviations
DRAWS = 20  # of random reasons, for each answer
OURS, ANY = "ours", "random items"


def report(case: str, config_path: Path) -> list[dict[str, Any]]:
    """Shares of the first items of 200 people's pages: the trait is shared by a reason, and is among the three that the
    reasons name."""
    config = configuration.localised(configuration.load(config_path))
    model, truth = CurrentModel(config), load_truth(Path(config.ground_truth))
    everyone = model.ids("user")
    people = [everyone[at] for at in np.unique(np.linspace(0, len(everyone) - 1, ANSWERS).astype(int))]
    generator = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {OURS: [], RANDOM_REASONS: [], ANY: []}
    for answer in model.recommend(people, k=1):
        why = model.explain(answer.key, answer.item_ids[0])
        known = [name.decode() for name in why["history_ids"] if name]
        parts = why["history_parts"][0, [bool(name) for name in why["history_ids"]]]
        item = truth.traits[truth.item_rows(answer.item_ids)[0]]
        history = truth.traits[truth.item_rows(known)]
        trait = int(np.argmax(_taste(truth, answer.key) * item))
        best = np.argsort(-parts, kind="stable")[:REASONS]
        found[OURS].append(names_it(trait, item, history[best], parts[best]))
        for name, traits in ((RANDOM_REASONS, history), (ANY, truth.traits)):
            drawn = [traits[generator.permutation(len(traits))[:REASONS]] for _ in range(DRAWS)]
            found[name].append(
                tuple(np.mean([names_it(trait, item, reasons, np.ones(len(reasons))) for reasons in drawn], 0))
            )
    rows = []
    for contender, values in found.items():
        for metric, shares in zip(("true trait shared", f"true trait among {TRAITS} named"), zip(*values)):
            half = 1.96 * np.std(shares, ddof=1) / np.sqrt(len(shares))
            mean = float(np.mean(shares))
            rows.append(row(case, contender, metric, mean, (mean - half, mean + half)))
    return [*rows, row(case, OURS, "answers", len(found[OURS]))]


def names_it(trait: int, item: np.ndarray, reasons: np.ndarray, parts: np.ndarray) -> tuple[float, float]:
    """Whether a reason shares the trait; whether the trait is among the three on which the reasons, by their parts, are
    most like the item.

    item: float [T] traits. reasons: float [R, T]. parts: float [R]. Returns 0 or 1, twice.
    """
    shared = reasons[:, trait] * np.sign(item[trait])
    likeness = (parts[:, None] * reasons * item).sum(0)
    return float((shared >= CLEAR).any()), float(trait in np.argsort(-likeness)[:TRAITS])


def _taste(truth: Truth, user_id: str) -> np.ndarray:
    """The taste when the events end, which is when the served model is asked."""
    return truth.taste_end[truth.user_ids.index(user_id)]
