"""Runs each contender on each size in a process of its own, and keeps what is finished.

N items, Q queries, D dimensions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.goals import Row, row_of
from benchmarks.quality import environments
from benchmarks.serving.world import item_vectors
from benchmarks.stored import keep, key_of
from pipeline.fingerprint import code_fingerprint

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".zhiyin" / "bench" / "ann"
SIZES = {"100k": 100_000, "1M": 1_000_000}
DIM, QUERIES, K = 64, 1000, 10
TARGET = 0.95
OURS = ("exact", "scann")
PEERS = ("hnswlib", "faiss_ivf", "faiss_ivf_pq")
_PACKAGES = {
    "hnswlib": ("hnswlib", "hnswlib"),
    "faiss_ivf": ("faiss IVF", "faiss-cpu"),
    "faiss_ivf_pq": ("faiss IVF-PQ", "faiss-cpu"),
}


def run_cases() -> list[Row]:
    """Every contender on every size: its best queries a second at the recall, its curve, build seconds and memory."""
    rows: list[Row] = []
    for size, num_items in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            asked = _write_vectors(Path(folder), num_items)
            for name in (*OURS, *PEERS):
                key = key_of(asked, *code_of(name))
                found = keep(KEPT / f"{size}-{name}", key, lambda: (_run(size, name, Path(folder)), {}))  # noqa: B023  (called at once)
                rows += [row | {"commit": found.commit} for row in _rows(size, name, found.what)]
        ours = max(
            (row for row in rows if row["case"] == size and row["contender"] in OURS_NAMES and row["metric"] == BEST),
            key=_value,
        )
        rows.append({**ours, "contender": "ours"})
    return rows


BEST = f"qps_at_recall_{TARGET}"
OURS_NAMES = tuple(f"ours, {name}" for name in OURS)


def _value(row: Row) -> float:
    return row["value"] or 0.0


def _rows(size: str, name: str, report: dict[str, Any]) -> list[Row]:
    if name in OURS:
        contender = f"ours, {name}"
    else:
        label, package = _PACKAGES[name]
        contender = f"{label} {environments.version('ann', package)}"
    good = [point for point in report["curve"] if point["recall"] >= TARGET]
    best = max((point["qps"] for point in good), default=None)
    values = {BEST: best, "build_seconds": report["build_seconds"], "peak_mb": report["peak_mb"]}
    rows = [row_of(size, contender, metric, value) for metric, value in values.items()]
    rows[0]["curve"] = report["curve"]
    return rows


def code_of(name: str) -> tuple[str | Path, ...]:
    """What a contender's report depends on beside the vectors, as `key_of` takes it."""
    if name in OURS:
        return (code_fingerprint("benchmarks.ann.ours"),)
    return HERE / "peers.py", environments.requirements("ann")


def _run(size: str, name: str, folder: Path) -> dict[str, Any]:
    print(f"{size}: {name}", flush=True)
    python = sys.executable if name in OURS else str(environments.ensure("ann"))
    worker = "ours" if name in OURS else "peers"
    threads = {
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_USE_LEGACY_KERAS": "1",
    }
    environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT) if name in OURS else ""}
    command = [python, str(HERE / f"{worker}.py"), name, str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{name} failed: " + " | ".join(run.stderr.strip().splitlines()[-3:]))
    return json.loads(run.stdout.splitlines()[-1])


def _write_vectors(folder: Path, num_items: int) -> str:
    """Write `vectors.npy` [N, D], `queries.npy` [Q, D] and `truth.npy` int [Q, K], the exact answer in any order.

    Returns their digest.
    """
    vectors = item_vectors(num_items, DIM)
    rng = np.random.default_rng(5)
    # Five items of a kind: a user's taste is a region, not five random points.
    centre = rng.integers(num_items, size=QUERIES)
    near = np.argpartition(-(vectors[centre] @ vectors[: min(num_items, 20_000)].T), 50, axis=1)[:, :50]
    taken = np.take_along_axis(near, rng.integers(50, size=(QUERIES, 5)), axis=1)
    queries = vectors[taken].sum(1)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    truth = np.stack([np.argpartition(-(vectors @ query), K)[:K] for query in queries])
    for name, array in (("vectors", vectors), ("queries", queries.astype(np.float32)), ("truth", truth)):
        np.save(folder / f"{name}.npy", array)
    return key_of(folder)
