"""The whole answer under load: candidates, rules, ranker, diversity, 20 items, by gRPC at fixed rates, by catalogue
size and index.

The towers and the ranker are those of the demo; the catalogue is made to size. Cost on two cores: about 12 minutes,
most of it for a million items. Run it on a quiet machine: it measures milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

GOALS: list[dict[str, Any]] = [
    {"case": "full_100k_200rps", "metric": "p99_ms", "at_most": 10.0},
    {"case": "full_100k_200rps", "metric": "errors", "at_most": 0},
    {"case": "swap_100k_100rps", "metric": "errors", "at_most": 0},
    {"case": "growth_10k_to_1M", "metric": "p50_ms_ratio", "at_most": 100.0},
    {"case": "same_answers", "metric": "largest_difference", "at_most": 1e-5},
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of evaluation.md. data_dir: ignored."""
    from benchmarks.serving.bench import run_cases

    return run_cases()
