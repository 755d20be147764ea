"""Checks a model that was trained again on all interactions against the judged one that it is to replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.config import DataConfig
from components.datasets.interactions import MOST_JUDGED, latest, read_interactions
from components.datasets.items import available_from_s, read_item_metadata
from components.events.splits import SPLITS
from serving.config import EvaluationConfig
from serving.index import load_index
from serving.loaded import load_once
from serving.offline.evaluation import JudgedModel, RetrievalMethod, TestSet, evaluate_slice, everything, last_day


@dataclass(frozen=True)
class RefitCheck:
    """What the refitted model finds of the test events, which it was trained on, and the judged one, which was not."""

    metric: str
    refitted: float
    judged: float
    max_loss: float  # how much lower the refitted model's may be
    judged_until: str  # date of the last interaction that the judged model was trained on
    refitted_until: str  # likewise of the refitted one

    @property
    def holds(self) -> bool:
        """Whether the refitted model may be served; an undefined number (nobody to judge by) stops nothing."""
        return not self.judged - self.refitted > self.max_loss

    @property
    def account(self) -> str:
        """A line for people."""
        numbers = f"{self.metric} of the test events {self.refitted:.4f} after, {self.judged:.4f} before"
        if not self.holds:
            return (
                f"judged and served: the model trained on events to {self.judged_until}; "
                f"trained again on all it finds too little ({numbers})"
            )
        return (
            f"judged on a model trained on events to {self.judged_until}; "
            f"served: the same trained again on all events, to {self.refitted_until} ({numbers})"
        )


def check_refitted(
    judged: JudgedModel, model: str, vectors: Mapping[str, np.ndarray], config: EvaluationConfig, data: DataConfig
) -> RefitCheck:
    """Ranks for the test users by both models, by retrieval alone.

    model: SavedModel of the refitted model. vectors: of each item by its id, float32 [dim].
    Raises ValueError naming items whose vectors are not finite.
    """
    index, item_ids = load_index(judged.index, kind="exact")
    new = np.stack([vectors[item_id] for item_id in item_ids])
    broken = [item_ids[row] for row in np.flatnonzero(~np.isfinite(new).all(1))]
    if broken:
        raise ValueError(f"the refitted model: {len(broken)} item vectors are not finite: {', '.join(broken[:10])}")
    splits = [read_interactions(judged.sequences[split], item_ids) for split in SPLITS]
    from_s = available_from_s(read_item_metadata(judged.items, item_ids), data, splits)
    questions = TestSet.of(splits[-1].at_most(MOST_JUDGED), from_s)
    method = RetrievalMethod(questions.people, data.history_length, np.zeros(len(item_ids), np.float32))

    def value_of(path: str, item_vectors: np.ndarray) -> float:
        scores = method.scores(load_once(path), item_vectors)
        return evaluate_slice(scores, questions, everything(questions), config).mean(config.metric)

    assert config.max_loss_to_last is not None, "EvaluationConfig refuses this"
    return RefitCheck(
        config.metric,
        value_of(model, new),
        value_of(judged.model, index.vectors.numpy()),
        config.max_loss_to_last,
        last_day(splits[0]),
        last_day(latest(splits)),
    )
