"""Builds the index over item vectors, measures its recall on user vectors, and refuses one that finds too little."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.datasets.interactions import read_interactions
from serving.config import IndexConfig, ServingConfig
from serving.index import MIN_SCANN_ITEMS, ExactIndex, ScannIndex, VectorIndex, save_index
from serving.loaded import load_once
from serving.offline.encoding import sampled_user_vectors


class RecallError(ValueError):
    """The index finds too little of what exact search finds."""


_MIN_LEAVES_TO_SEARCH = 10
_QUERIES_AT_ONCE = 64
_TIMED_QUERIES = 200
_EQUAL = 1e-5  # of the best score: what lies closer is as good


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
    tower = load_once(model_path).signatures["user_tower"]
    people = read_interactions(sequences_folder, item_ids)
    queries = sampled_user_vectors(tower, index.vectors.numpy(), people, history_length, config.index.measured_queries)
    report: dict[str, Any] = {"build_seconds": round(build_s, 3), "queries": len(queries)}
    exact = exact_scores(index, queries, config.index.candidates)
    if isinstance(index, ScannIndex) and not (config.index.leaves_to_search or config.index.reorder):
        report["curve"] = tune_scann(index, queries, config.index.min_recall, exact)
    depths = sorted({10, config.index.candidates})
    report["recall"] = {str(k): measure_recall(index, queries, k, exact) for k in depths}
    for k, recall in report["recall"].items():
        if recall < config.index.min_recall:
            raise RecallError(
                f"recall@{k} is {recall:.4f} on {len(queries)} user vectors, "
                f"below the limit of {config.index.min_recall}"
            )
    save_index(index, folder, item_ids, report)
    return report


def build_vector_index(vectors: np.ndarray, item_ids: Sequence[str], config: IndexConfig) -> VectorIndex:
    """An index over float [N, D] vectors, of the kind that the configuration and the number of items ask for.

    Fewer than MIN_SCANN_ITEMS items are searched exactly whatever is asked for.
    Raises ValueError for an empty catalogue, ids that are not one each, and vectors that are not finite, naming the
    items.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"item vectors: got shape {vectors.shape}, expected at least one row of [items, dimensions]")
    if len(item_ids) != len(vectors) or len(set(item_ids)) != len(item_ids):
        raise ValueError(f"item ids: got {len(item_ids)} ({len(set(item_ids))} distinct) for {len(vectors)} vectors")
    broken = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(broken):
        named = ", ".join(repr(item_ids[row]) for row in broken[:10])
        raise ValueError(f"{len(broken)} item vectors are not finite: {named}{', ...' if len(broken) > 10 else ''}")
    is_small = len(vectors) < (config.exact_below if config.kind == "auto" else MIN_SCANN_ITEMS)
    if config.kind == "exact" or is_small or len(vectors) < MIN_SCANN_ITEMS:
        return ExactIndex(vectors)
    return build_scann(vectors, config)


def build_scann(vectors: np.ndarray, config: IndexConfig) -> ScannIndex:
    """Partition and quantise float32 [N, D] vectors; where the configuration names no sizes, they follow from N."""
    from scann.scann_ops.py import scann_ops

    num_items = len(vectors)
    sample = min(num_items, 250_000)  # of the vectors, by which the leaves are found
    num_leaves = min(sample, config.num_leaves or max(2, math.isqrt(num_items)))
    leaves_to_search = min(
        num_leaves, config.leaves_to_search or max(_MIN_LEAVES_TO_SEARCH, math.ceil(num_leaves / 20))
    )
    reorder = min(num_items, config.reorder or 10 * config.candidates)
    candidates = min(num_items, config.candidates)
    searcher = (
        scann_ops.builder(vectors, candidates, "dot_product")
        .tree(num_leaves, leaves_to_search, training_sample_size=sample)
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(reorder)
        .build()
    )
    return ScannIndex(searcher.serialize_to_module(), num_leaves, leaves_to_search, reorder, candidates)


def tune_scann(
    index: ScannIndex, queries: np.ndarray, target: float, exact: np.ndarray | None = None
) -> list[dict[str, float]]:
    """Let the index search as few of its leaves, then score as few items exactly, as reach the recall `target` at 10
    and at its candidates; where all leaves do not, more items are scored exactly, all in the end.

    queries: float32 [Q, D] of the kind that will be asked. exact: as `exact_scores` gives
    them at the index's candidates, where they are there.
    Returns the curve that was measured: a point for each setting tried, with its queries a second, asked one by one.
    """
    curve = []
    best = exact_scores(index, queries, index.candidates) if exact is None else exact

    def measure() -> bool:
        started = time.perf_counter()
        recalls = {f"recall@{k}": measure_recall(index, queries, k, best) for k in (10, index.candidates)}
        settings = {"leaves_to_search": float(index.leaves_to_search), "reorder": float(index.reorder)}
        curve.append(
            {**settings, **recalls, "qps": queries_per_second(index, queries), "seconds": time.perf_counter() - started}
        )
        return min(recalls.values()) >= target

    is_enough = measure()
    while not is_enough and index.leaves_to_search < index.num_leaves:
        index.leaves_to_search = min(index.num_leaves, math.ceil(1.4 * index.leaves_to_search))
        is_enough = measure()
    while not is_enough and index.reorder < index.num_items:  # thousands of one vector can push out what is better
        index.reorder = min(index.num_items, 2 * index.reorder)
        is_enough = measure()
    while index.reorder > index.candidates:
        enough, index.reorder = index.reorder, max(index.candidates, index.reorder // 2)
        if not measure():
            index.reorder = enough
            break
    return curve


def queries_per_second(index: VectorIndex, queries: np.ndarray, k: int = 10) -> float:
    """How many queries float32 [Q, D] are answered in a second of processor time, one after the other, k items each."""
    search = tf.function(
        index.search, input_signature=[tf.TensorSpec([None, queries.shape[1]]), tf.TensorSpec([], tf.int32)]
    )
    rows = [tf.constant(queries[row : row + 1], tf.float32) for row in range(min(len(queries), _TIMED_QUERIES))]
    search(rows[0], k)
    started = time.process_time()
    for row in rows:
        search(row, k)
    return len(rows) / (time.process_time() - started)


def exact_scores(index: VectorIndex, queries: np.ndarray, k: int) -> np.ndarray:
    """The highest scores that any item of the index has, best first: float32 [Q, k], or as many as there are items.

    queries: float32 [Q, D]. Raises ValueError without any.
    """
    if not len(queries):
        raise ValueError("recall cannot be measured without a query")
    everything = ExactIndex(index.vectors)
    search, k = tf.function(everything.search), min(k, index.num_items)
    return np.concatenate([search(block, tf.constant(k))[0].numpy() for block in _blocks(queries)])


def measure_recall(index: VectorIndex, queries: np.ndarray, k: int, exact: np.ndarray | None = None) -> float:
    """How many of the best k items the index finds, averaged over queries float32 [Q, D]. 1.0 for an exact index.

    An item is one of the best where its score is that of the kth or above: items of one vector, such as those of one
    creator of which nothing else is known, stand in for each other.
    exact: as `exact_scores` gives them, at k or more.
    """
    k = min(k, index.num_items)
    exact = exact_scores(index, queries, k) if exact is None else exact
    search = tf.function(
        index.search, input_signature=[tf.TensorSpec([None, queries.shape[1]]), tf.TensorSpec([], tf.int32)]
    )
    found = np.concatenate([search(block, k)[0].numpy() for block in _blocks(queries)])
    enough = exact[:, k - 1] - _EQUAL * np.abs(exact[:, 0])
    return float((found >= enough[:, None]).mean())


def _blocks(queries: np.ndarray) -> list[tf.Tensor]:
    starts = range(0, len(queries), _QUERIES_AT_ONCE)
    return [tf.constant(queries[start : start + _QUERIES_AT_ONCE], tf.float32) for start in starts]
