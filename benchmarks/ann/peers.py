"""`peers.py NAME FOLDER` in the peers' environment: hnswlib and faiss on the folder's vectors; prints one JSON line."""

import itertools
import json
import math
import os
import sys
import time
from pathlib import Path

import faiss
import hnswlib
import numpy as np

BATCH, ROUNDS = 100, 3


def main() -> None:
    """Build with all cores, as we do, then ask with one thread and each setting."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    vectors, queries, truth = (np.load(folder / f"{part}.npy") for part in ("vectors", "queries", "truth"))
    k = truth.shape[1]
    started = time.perf_counter()
    search, settings = {"hnswlib": hnsw, "faiss_ivf": ivf, "faiss_ivf_pq": ivf_pq}[name](vectors)
    build_seconds = time.perf_counter() - started
    batches = [queries[at : at + BATCH] for at in range(0, len(queries), BATCH)]
    curve = []
    for setting in settings:
        found = np.concatenate([search(batch, k, setting) for batch in batches])
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for batch in batches:
                search(batch, k, setting)
            seconds.append(time.perf_counter() - started)
        recall = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(found, truth)])
        curve.append({"setting": setting, "recall": float(recall), "qps": len(queries) / min(seconds)})
    # Not getrusage's, which is never below the peak of the process that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"curve": curve, "build_seconds": build_seconds, "peak_mb": int(peak.split()[1]) / 1024}))


def hnsw(vectors):
    """M 16, 200 while building: the usual setting; ef while searching."""
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
    index.set_num_threads(os.cpu_count())
    index.add_items(vectors)
    index.set_num_threads(1)

    def search(queries, k, ef):
        index.set_ef(ef)
        return index.knn_query(queries, k)[0]

    return search, (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400)


def ivf(vectors):
    """Flat vectors in as many lists as we have leaves."""
    lists = math.isqrt(len(vectors))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    return _faiss(faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT), vectors)


def ivf_pq(vectors):
    """Four-bit codes of two dimensions each, scanned with SIMD, the best several times k scored exactly: faiss' nearest
    to ScaNN."""
    lists = math.isqrt(len(vectors))
    index = faiss.index_factory(
        vectors.shape[1], f"IVF{lists},PQ{vectors.shape[1] // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT
    )
    probing, probes = _faiss(index, vectors)

    def search(queries, k, setting):
        index.k_factor = setting[1]
        return probing(queries, k, setting[0])

    return search, list(itertools.product(probes, (2, 5, 10, 30)))


def _faiss(index, vectors):
    faiss.omp_set_num_threads(os.cpu_count())
    index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[:250_000]])
    index.add(vectors)
    faiss.omp_set_num_threads(1)

    def search(queries, k, probes):
        faiss.extract_index_ivf(index).nprobe = probes
        return index.search(queries, k)[1]

    return search, (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)


main()
