"""Items that nobody has played: Last.fm-2K, ranked among the cold artists, and what each modality alone would give,
cold and warm.

`LFM-cold` is the protocol with all its peers, `warm` the same data in its public split. Finished runs are kept in
`.zhiyin/bench/quality`. Cost on two cores: about ten minutes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

TEXT = "text"
GOALS: list[dict[str, Any]] = [
    {"case": "LFM-cold", "metric": "R@20", "at_least": 1.10, "of": "best peer"},
    *(
        {"case": case, "metric": "R@20", "at_least": 1.0, "of": f"ours, {name}"}
        for case in ("LFM-cold", "warm")
        for name in ("text", "vggish", "whisper")
    ),
]
RESERVATIONS: dict[str, tuple[str, ...]] = {
    "the ranges of ours were found on validation with more than the budget of a case": ("LFM-cold", "warm"),
}


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of evaluation.md. Raises SettingsError where the data is missing."""
    from benchmarks.quality.bench import OURS, case_rows, outcome_rows, run_contender, splits_of
    from benchmarks.quality.methods import peers_for
    from benchmarks.quality.ours import ours

    rows = []
    for (_, splits), case in zip(splits_of(data_dir, ("LFM-cold", "LFM")), ("LFM-cold", "warm")):
        outcomes = {OURS: run_contender([(split, ours(split)) for split in splits])}
        if case == "LFM-cold":
            contenders = [peers_for(split) for split in splits]
            outcomes |= {
                per_split[0].name: run_contender(list(zip(splits, per_split))) for per_split in zip(*contenders)
            }
            rows += case_rows(case, outcomes)
        else:
            rows += outcome_rows(case, OURS, outcomes[OURS])
        for modality in (TEXT, *(content for content in splits[0].content if content not in _TEXTS)):
            alone = [_only(split, modality) for split in splits]
            contender = f"ours, {modality}"
            per_split = [(split, replace(ours(split), name=contender, runs=1)) for split in alone]
            rows += outcome_rows(case, contender, run_contender(per_split))
    return rows


_TEXTS = ("minilm",)


def _only(split: Any, modality: str) -> Any:
    """The split with one modality: the tags and their embedding are the text."""
    if modality == TEXT:
        return replace(split, content={name: vectors for name, vectors in split.content.items() if name in _TEXTS})
    return replace(split, content={modality: split.content[modality]}, tags=())
