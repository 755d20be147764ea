"""`ours.py exact|scann FOLDER`: our index on the folder's vectors, as it is served; prints one JSON line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Literal, cast

import numpy as np
import tensorflow as tf

from benchmarks.peak import peak_mb
from serving.config import IndexConfig
from serving.index import ScannIndex
from serving.offline.build_index import build_vector_index

BATCH, ROUNDS = 100, 3


def main() -> None:
    """Build, then ask with each setting."""
    kind, folder = cast(Literal["exact", "scann"], sys.argv[1]), Path(sys.argv[2])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    vectors, queries, truth = (np.load(folder / f"{name}.npy") for name in ("vectors", "queries", "truth"))
    k = truth.shape[1]
    started = time.perf_counter()
    # Ten neighbours are asked for, so ten candidates are what the index is built for.
    index = build_vector_index(vectors, [str(row) for row in range(len(vectors))], IndexConfig(kind=kind, candidates=k))
    build_seconds = time.perf_counter() - started
    settings: list[tuple[int, int]] = [(0, 0)]
    if isinstance(index, ScannIndex):
        shares = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
        settings = [
            (max(1, round(share * index.num_leaves)), reorder) for share in shares for reorder in (20, 50, 100, 300)
        ]
    curve = []
    for leaves, reorder in settings:
        if isinstance(index, ScannIndex):
            index.leaves_to_search, index.reorder = leaves, reorder
        search = tf.function(
            index.search, input_signature=[tf.TensorSpec([None, vectors.shape[1]]), tf.TensorSpec([], tf.int32)]
        )
        batches = [tf.constant(queries[at : at + BATCH]) for at in range(0, len(queries), BATCH)]
        found = np.concatenate([search(batch, k)[1].numpy() for batch in batches])
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for batch in batches:
                search(batch, k)
            seconds.append(time.perf_counter() - started)
        recall = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(found, truth)])
        curve.append(
            {"leaves": leaves, "reorder": reorder, "recall": float(recall), "qps": len(queries) / min(seconds)}
        )
    print(json.dumps({"curve": curve, "build_seconds": build_seconds, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
