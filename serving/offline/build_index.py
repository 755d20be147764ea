"""Builds the index over item vectors, measures its recall on user vectors, and refuses one that finds too little."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.datasets.interactions import read_interactions
from serving.config import ServingConfig
from serving.index import ScannIndex, build_vector_index, measure_recall, save_index, tune_scann
from serving.offline.encoding import sampled_user_vectors


class RecallError(ValueError):
    """The index finds too little of what exact search finds."""


def build_item_index(
    model_path: str,
    item_ids: Sequence[str],
    vectors: np.ndarray,
    sequences_folder: str,
    folder: str,
    config: ServingConfig,
    history_length: int,
) -> dict[str, Any]:
    """Build the index, measure it on the vectors of real users, and write it (docs/artifacts.md, "ItemIndex").

    vectors: float32 [num_items, dim]. sequences_folder: a split's folder. history_length: as DataConfig has it.
    Returns the report.
    Raises ValueError naming items whose vectors are not finite; RecallError with recall and limit where the index is
    below the limit.
    """
    started = time.monotonic()
    index = build_vector_index(vectors, item_ids, config.index)
    build_s = time.monotonic() - started
    tower = (model := tf.saved_model.load(model_path)).signatures["user_tower"]
    people = read_interactions(sequences_folder, item_ids)
    queries = sampled_user_vectors(tower, index.vectors.numpy(), people, history_length, config.index.measured_queries)
    del model
    report: dict[str, Any] = {"build_seconds": round(build_s, 3), "queries": len(queries)}
    if isinstance(index, ScannIndex) and not (config.index.leaves_to_search or config.index.reorder):
        report["curve"] = tune_scann(index, queries, config.index.min_recall)
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
