"""Search in the catalogue's vectors, exact or with ScaNN, behind one interface.

B queries, N items, D dimensions, k answers. Positions are rows of the item vectors.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.io import gfile

from components.contract import VIEWS

MIN_SCANN_ITEMS = (
    16  # product quantisation needs a point for each of its 16 centres; with one item ScaNN ends the process
)
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


def save_views(folder: str, views: Mapping[str, np.ndarray]) -> None:
    """Write those of VIEWS that there are, float32 [N, D] each, beside an index: `content.npy`, `behaviour.npy`."""
    for name in VIEWS:
        if name in views:
            with gfile.GFile(f"{folder}/{name}.npy", "wb") as file:
                np.save(file, views[name])


def load_views(folder: str) -> dict[str, np.ndarray]:
    """What `save_views` wrote."""
    paths = {name: f"{folder}/{name}.npy" for name in VIEWS}
    there = {name: path for name, path in paths.items() if gfile.exists(path)}
    return {name: np.load(io.BytesIO(gfile.GFile(path, "rb").read())) for name, path in there.items()}


def pad_to(values: tf.Tensor, width: tf.Tensor | int, fill) -> tf.Tensor:
    """[B, w] to [B, width] with `fill` on the right, for w <= width."""
    return tf.pad(
        values, [[0, 0], [0, tf.maximum(width - tf.shape(values)[1], 0)]], constant_values=tf.cast(fill, values.dtype)
    )


def _write_json(path: str, value: Any) -> None:
    with gfile.GFile(path, "w") as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False))
