"""Does any damaged file crash, hang or poison the decoder (`fuzz_media`), or the reader of tables (`fuzz_tables`)?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import fuzz_media, fuzz_tables
from benchmarks.goals import check_cases

NAME = "fuzz"
GOALS = tuple(
    goal
    for case, part in (("media", fuzz_media), ("tables", fuzz_tables))
    for goal in (
        {"case": case, "metric": "inputs", "at_least": part.INPUTS},
        *({"case": case, "metric": metric, "at_most": 0} for metric in part.FAULTS),
    )
)
CASES = ("media", "tables")


def run(data_dir: Path | None = None, cases: Sequence[str] = CASES) -> list[dict]:
    """Rows of evaluation.md for the cases `media` and `tables`.

    data_dir: ignored; the files are made here, the damage is the same in every run.
    """
    check_cases(cases, CASES)
    media = fuzz_media.rows() if "media" in cases else []
    return media + (fuzz_tables.rows() if "tables" in cases else [])
