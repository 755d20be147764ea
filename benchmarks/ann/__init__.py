"""Nearest neighbours: exact and ScaNN as we serve them, beside hnswlib and faiss, on the same vectors, one thread.

Unit vectors in clusters, 64 dimensions; queries are sums of five items, as users are. Everybody answers batches of 100
queries, so that no library pays for Python. What is finished is kept in `.zhiyin/bench/ann`, and used again for the
same code and vectors. Cost on two cores: 3 minutes for 100k, 20 for 1M.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PEERS = ("hnswlib", "faiss IVF", "faiss IVF-PQ")
GOALS: list[dict[str, Any]] = [
    {"case": size, "metric": "qps_at_recall_0.95", "at_least": 1.0, "of": peer}
    for size in ("100k", "1M")
    for peer in PEERS
]
# Of the stored rows, until they are measured again.
RESERVATIONS: dict[str, tuple[str, ...]] = {
    "ScaNN was tried with 28 settings, hnswlib with 11, faiss with 12, and IVF-PQ scored ten times k exactly in all": (
        *("100k", "1M"),
    ),
}


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of evaluation.md. data_dir: ignored."""
    from benchmarks.ann.bench import run_cases

    return run_cases()
