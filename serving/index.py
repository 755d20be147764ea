"""Search in the catalogue's vectors, exact or with ScaNN, behind one interface.

B queries, N items, D dimensions, k answers. Positions are rows of the item vectors.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.io import gfile

from serving.config import IndexConfig

MIN_SCANN_ITEMS = (
    16  # product quantisation needs a point for each of its 16 centres; with one item ScaNN ends the process
)
_MIN_LEAVES_TO_SEARCH = 10
_QUERIES_AT_ONCE = 64
_TIMED_QUERIES = 200
SAVE_OPTIONS = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])


class ExactIndex(tf.Module):
    """Every item is scored."""

    kind = "exact"

    def __init__(self, vectors: np.ndarray):
        super().__init__()
        self.num_items = len(vectors)
        self._vectors = tf.Variable(vectors, trainable=False, name="item_vectors")

    @property
    def vectors(self) -> tf.Tensor:
        """float32 [N, D]."""
        return self._vectors.read_value()

    @property
    def parameters(self) -> dict[str, int]:
        """What the search was built with."""
        return {}

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The k items of the highest dot product, best first.

        queries: float32 [B, D]. Returns scores float32 [B, k] and positions int32 [B, k], -inf and -1 beyond what was
        found.
        """
        scores = tf.matmul(queries, self.vectors, transpose_b=True)  # [B, N]
        scores, positions = tf.math.top_k(scores, tf.minimum(k, self.num_items))
        return pad_to(scores, k, -np.inf), pad_to(positions, k, -1)


class ScannIndex(tf.Module):
    """Partitions, product quantisation and exact scores for the best of it (Guo et al., 2020;
    github.com/google-research/scann).

    state: ScaNN's tensors, as `build` makes them or as they were loaded. The rest: see IndexConfig.
    """

    kind = "scann"

    def __init__(self, state, num_leaves: int, leaves_to_search: int, reorder: int, candidates: int):
        super().__init__()
        from scann.scann_ops.py import scann_ops  # registers its ops; the exact answer must load where this is missing

        self._searcher_from = Untracked(scann_ops.searcher_from_module)
        self._state = state
        self.num_items = int(state.dataset.shape[0])
        self.num_leaves, self.leaves_to_search, self.reorder, self.candidates = (
            num_leaves,
            leaves_to_search,
            reorder,
            candidates,
        )

    @classmethod
    def build(cls, vectors: np.ndarray, config: IndexConfig) -> ScannIndex:
        """Partition and quantise float32 [N, D] vectors."""
        from scann.scann_ops.py import scann_ops

        num_items = len(vectors)
        num_leaves = config.num_leaves or max(2, math.isqrt(num_items))
        leaves_to_search = min(
            num_leaves, config.leaves_to_search or max(_MIN_LEAVES_TO_SEARCH, math.ceil(num_leaves / 20))
        )
        reorder = min(num_items, config.reorder or 10 * config.candidates)
        candidates = min(num_items, config.candidates)
        searcher = (
            scann_ops.builder(vectors, candidates, "dot_product")
            .tree(num_leaves, leaves_to_search, training_sample_size=min(num_items, 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(reorder)
            .build()
        )
        return cls(searcher.serialize_to_module(), num_leaves, leaves_to_search, reorder, candidates)

    @property
    def vectors(self) -> tf.Tensor:
        """float32 [N, D], the copy that ScaNN keeps for its exact scores."""
        return self._state.dataset.read_value()

    @property
    def parameters(self) -> dict[str, int]:
        """What the search was built with."""
        names = ("num_leaves", "leaves_to_search", "reorder", "candidates")
        return {name: getattr(self, name) for name in names}

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """As `ExactIndex.search`, of the items in the leaves that were searched; their scores are exact."""
        found = tf.minimum(k, self.num_items)
        positions, scores = self._searcher_from.value(self._state).search_batched(
            queries,
            found,
            pre_reorder_num_neighbors=tf.maximum(self.reorder, found),
            leaves_to_search=self.leaves_to_search,
        )
        absent = tf.math.is_nan(scores)  # ScaNN fills short rows with item 0 and NaN
        positions, scores = tf.where(absent, -1, positions), tf.where(absent, -np.inf, scores)
        scores, positions = pad_to(scores, k, -np.inf), pad_to(positions, k, -1)
        batch = tf.shape(queries)[0]
        return tf.ensure_shape(tf.reshape(scores, [batch, k]), [None, None]), tf.reshape(positions, [batch, k])


class Untracked:
    """Holds a value where TensorFlow's object tracking, which saves what it finds, does not look for one."""

    def __init__(self, value: Any):
        self.value = value


VectorIndex = ExactIndex | ScannIndex


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
    return ScannIndex.build(vectors, config)


def tune_scann(index: ScannIndex, queries: np.ndarray, target: float) -> list[dict[str, float]]:
    """Let the index search as few of its leaves, then score as few items exactly, as reach the recall `target` at 10
    and at its candidates.

    All leaves where none does. queries: float32 [Q, D] of the kind that will be asked.
    Returns the curve that was measured: a point for each setting tried, with its queries a second, asked one by one.
    """
    curve = []

    def measure() -> bool:
        started = time.perf_counter()
        recalls = {f"recall@{k}": measure_recall(index, queries, k) for k in (10, index.candidates)}
        settings = {"leaves_to_search": float(index.leaves_to_search), "reorder": float(index.reorder)}
        curve.append(
            {**settings, **recalls, "qps": queries_per_second(index, queries), "seconds": time.perf_counter() - started}
        )
        return min(recalls.values()) >= target

    while not measure() and index.leaves_to_search < index.num_leaves:
        index.leaves_to_search = min(index.num_leaves, math.ceil(1.4 * index.leaves_to_search))
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


def save_index(index: VectorIndex, folder: str, item_ids: Sequence[str], report: dict) -> None:
    """Write `vectors.npy`, `item_ids.json`, `report.json` with the kind and parameters, and ScaNN's tensors under
    `scann/`.
    """
    with gfile.GFile(f"{folder}/vectors.npy", "wb") as file:
        np.save(file, index.vectors.numpy())
    _write_json(f"{folder}/item_ids.json", list(item_ids))
    if isinstance(index, ScannIndex):
        holder = tf.Module()
        holder.state = index._state
        tf.saved_model.save(holder, f"{folder}/scann", options=SAVE_OPTIONS)
    report = {"kind": index.kind, "parameters": index.parameters, "num_items": index.num_items} | report
    _write_json(f"{folder}/report.json", report)


def load_index(folder: str, kind: Literal["as saved", "exact"] = "as saved") -> tuple[VectorIndex, list[str]]:
    """The very index that was measured, or an exact one over its vectors; and the item ids in its order."""
    item_ids, report = (json.loads(gfile.GFile(f"{folder}/{name}").read()) for name in ("item_ids.json", "report.json"))
    if kind == "exact" or report["kind"] == "exact":
        return ExactIndex(np.load(io.BytesIO(gfile.GFile(f"{folder}/vectors.npy", "rb").read()))), item_ids
    import scann  # noqa: F401 (registers the ops that the tensors are loaded with)

    holder = tf.saved_model.load(f"{folder}/scann")
    index = ScannIndex(holder.state, **report["parameters"])
    index._holder = holder
    return index, item_ids


def measure_recall(index: VectorIndex, queries: np.ndarray, k: int) -> float:
    """Share of the exact top k that the index finds, averaged over queries float32 [Q, D]. 1.0 for an exact index."""
    queries = np.asarray(queries, np.float32)
    if not len(queries):
        raise ValueError("recall cannot be measured without a query")
    vectors, k = index.vectors, min(k, index.num_items)
    search = tf.function(
        index.search, input_signature=[tf.TensorSpec([None, queries.shape[1]]), tf.TensorSpec([], tf.int32)]
    )
    found = 0
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        block = tf.constant(queries[start : start + _QUERIES_AT_ONCE])
        exact = tf.math.top_k(tf.matmul(block, vectors, transpose_b=True), k).indices.numpy()
        approximate = search(block, k)[1].numpy()
        found += sum(len(np.intersect1d(a, b)) for a, b in zip(exact, approximate))
    return found / (len(queries) * k)


def pad_to(values: tf.Tensor, width: tf.Tensor | int, fill) -> tf.Tensor:
    """[B, w] to [B, width] with `fill` on the right, for w <= width."""
    return tf.pad(
        values, [[0, 0], [0, tf.maximum(width - tf.shape(values)[1], 0)]], constant_values=tf.cast(fill, values.dtype)
    )


def _write_json(path: str, value: Any) -> None:
    with gfile.GFile(path, "w") as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False))
