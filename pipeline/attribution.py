"""Decomposes the scores of an item for a person: by interactions, by modalities of the item, by fields of the ranker.

P parts, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.settings import SettingsError
from pipeline.local_model import CurrentModel
from pipeline.records import record_of

TOLERANCE = 1e-4  # between the parts' sum and the score that is served


@dataclass(frozen=True)
class Decomposition:
    """A score as the sum of named parts and a rest."""

    what: str  # the score that is decomposed
    total: float
    names: list[str]  # of the parts; "" where there is none
    parts: np.ndarray  # float [P]
    rest: float = 0.0

    def largest(self, count: int) -> tuple[list[tuple[str, float]], float]:
        """The parts of the largest magnitude, largest first, and everything else; together they add up to the total."""
        order = np.argsort(-np.abs(self.parts), kind="stable")[:count]
        chosen = [place for place in order if self.names[place] and self.parts[place]]
        rest = self.rest + self.parts.sum() - self.parts[chosen].sum()
        return [(self.names[place], float(self.parts[place])) for place in chosen], float(rest)


@dataclass(frozen=True)
class Explanation:
    """Why an item, or why not."""

    scores: list[Decomposition]
    notes: list[str]  # what cannot be told, and why


def explain(model: CurrentModel, user_id: str, item_id: str) -> Explanation:
    """What each part adds to the scores of an item for a person.

    Raises SettingsError for an item that the model does not know.
    """
    why = model.explain(user_id, item_id)
    history = _texts(why["history_ids"])
    titles = model.titles({name for name in history if name})
    by_item = [f"{name}  {titles[name]}" if name else "" for name in history]
    score = float(why["score"][0])
    rest = float(why["history_rest"][0])
    scores, notes = [Decomposition("similarity to the taste", score, by_item, why["history_parts"][0], rest)], []
    try:
        names, parts = score_parts(model, item_id, model.query(user_id), score)
        scores.append(Decomposition("the same by what is known of the item", score, names, parts))
    except SettingsError as error:
        notes.append(f"not told by what is known of the item: {error}")
    if fields := _texts(why["field_names"]):
        utility, rest = float(why["utility"][0]), float(why["field_rest"][0])
        scores.append(Decomposition("utility by the ranker", utility, fields, why["field_parts"][0], rest))
    if next(model.recommend([user_id], 1)).fallback:
        notes.append(f"nothing is known of {user_id!r}: new people get what is popular lately")
    return Explanation(scores, notes)


def score_parts(model: CurrentModel, item_id: str, query: np.ndarray, score: float) -> tuple[list[str], np.ndarray]:
    """Names of the parts of an item's vector (`trainer.explain.attribution`) and what each adds to a score.

    The retrieval model encodes the item again, from its record in the catalogue that the current version was made from.
    query: float [D], the person's vector; score: its product with the item's vector, as it is served.
    Returns P names and float [P], which add up to the score.
    Raises SettingsError where the item is served by another vector than that run's, or came after it.
    """
    names, vectors = vector_parts(model, item_id)
    of_score = vectors @ query
    if abs(float(of_score.sum()) - score) > TOLERANCE:
        raise SettingsError(f"{item_id} is served by another vector than that of the run")
    return names, of_score


def vector_parts(model: CurrentModel, item_id: str) -> tuple[list[str], np.ndarray]:
    """The parts of an item's vector by the current retrieval model: P names, and float32 [P, D].

    Raises SettingsError where the run's catalogue has no such item, or the model gives no parts.
    """
    from components.datasets.items import encode_item_inputs

    record = record_of(model.part("items").path / "Split-train", item_id)
    signatures = model.retrieval_signatures
    if "item_contributions" not in signatures:
        raise SettingsError("the trained model gives no parts of an item's vector; train it anew")
    signature = signatures["item_contributions"]
    answer = signature(**encode_item_inputs(signature, [record])[1])
    return _texts(answer["names"].numpy()[0]), answer["parts"].numpy()[0]


def _texts(values: Sequence[bytes]) -> list[str]:
    return [value.decode() for value in values]
