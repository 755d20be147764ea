"""Real pictures: whether what looks alike shows the same, or was made for the same game, people or place.

Reads what `./zhiyin data pictures --fetch` wrote. Each picture is a query against the others of its half of the labels;
half of the labels are for choosing how the contenders are made, half for testing. P@1, P@5 and mAP are means over
labels, with an interval over labels. `ours` are the statistics that the product measures of key frames. No label is
seen by any contender. Cost on two cores: five minutes, most of it for decoding and the frozen encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import retrieval
from benchmarks.pictures.frames import KEPT

LABELS = ("theme", "set")
HALVES = ("choosing", "test")
_MAP = "map.npz"
GOALS: list[dict[str, Any]] = [
    {"case": f"{label} test", "metric": metric, "at_least": 1.0, "of": peer}
    for label in LABELS
    for peer in ("HSV histogram", "LBP", "HOG")
    for metric in retrieval.METRICS
]

RESERVATIONS: dict[str, tuple[str, ...]] = {
    "the textures and joint colours of ours were chosen on the other half, after the test had been seen without them": (
        *(f"{label} test" for label in LABELS),
    ),
}


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of every contender on both halves of both kinds of labels.

    Raises SettingsError where the data or the frozen encoder is not there.
    """
    from benchmarks.pictures.contenders import FROZEN, vectors_of
    from benchmarks.pictures.frames import read_frames

    frames = read_frames(data_dir)
    vectors = vectors_of(frames)
    rows = []
    for label in LABELS:
        halves = retrieval.galleries(frames.ids, frames.labels[label])
        for half in HALVES:
            rows += retrieval.rows_of_half(f"{label} {half}", vectors, halves[half])
    by_name = [theme or name for theme, name in zip(frames.labels["theme"], frames.labels["set"])]
    np.savez(KEPT / _MAP, vectors=vectors[f"ours + {FROZEN}"], labels=np.array(by_name))
    return rows


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a map of the last run's pictures by our vectors and the frozen encoder's as an SVG."""
    with np.load(KEPT / _MAP) as stored:
        retrieval.draw_map(path, stored["vectors"], stored["labels"], "other themes and sets")
