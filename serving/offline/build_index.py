"""Builds an index whose recall on user vectors reaches the limit, or none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.datasets.interactions import read_interactions
from components.settings import from_json
from serving.config import ServingConfig
from serving.index import ScannIndex, build_index, measure_recall, save_index, tune
from serving.offline.encoding import sampled_user_vectors


class RecallError(ValueError):
    """The index finds too little of what exact search finds."""


def build_item_index(
    model_path: str,
    item_ids: Sequence[str],
    vectors: np.ndarray,
    sequences_folder: str,
    folder: str,
    settings: str,
    history_length: int,
) -> dict[str, Any]:
    """Build the index, measure it on the vectors of real users, and write it (docs/architecture.md, "ItemIndex").

    vectors: float32 [N, D]. sequences_folder: a split's folder. settings: a ServingConfig as JSON. history_length: as
    DataConfig has it. Returns the report.
    Raises ValueError naming items whose vectors are not finite; RecallError with recall and limit where the index is
    below the limit.
    """
    config = from_json(ServingConfig, settings)
    started = time.monotonic()
    index = build_index(vectors, item_ids, config.index)
    build_s = time.monotonic() - started
    tower = (model := tf.saved_model.load(model_path)).signatures["user_tower"]
    people = read_interactions(sequences_folder, item_ids)
    queries = sampled_user_vectors(tower, index.vectors.numpy(), people, history_length, config.index.measured_queries)
    del model
    report: dict[str, Any] = {"build_seconds": round(build_s, 3), "queries": len(queries)}
    if isinstance(index, ScannIndex) and not (config.index.leaves_to_search or config.index.reorder):
        report["curve"] = tune(index, queries, config.index.min_recall)
    depths = sorted({10, config.index.candidates})
    report["recall"] = {str(k): measure_recall(index, queries, k) for k in depths}
    for k, recall in report["recall"].items():
        if recall < config.index.min_recall:
            raise RecallError(
                f"recall@{k} is {recall:.4f} on {len(queries)} user vectors, "
                f"below the limit of {config.index.min_recall}"
            )
    save_index(index, folder, item_ids, report)
    return report
