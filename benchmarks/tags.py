"""Tags of items that training has not seen, told from their other content, beside how frequent each tag is.

`demo`: the cold items of a finished `./zhiyin demo`, from sound, pictures, words and attributes. `LFM-cold`: the cold
artists of Last.fm-2K from two audio embeddings; the text embedding is made of the tags, so it is left out. mAP is the
mean over items of the average precision of their ranked tags. Cost on two cores: three minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

METRIC = "mAP"
SEEDS = (7, 8, 9)
AUDIO = ("vggish", "whisper")
GOALS: list[dict[str, Any]] = [
    {"case": case, "metric": METRIC, "at_least": 1.0, "of": "frequency"} for case in ("demo", "LFM-cold")
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of `ours` and of the frequency of tags. Raises SettingsError where no demo has run or the data is
    missing."""
    from benchmarks.cold_demo import row
    from benchmarks.quality.bench import splits_of

    values = {"demo": [_demo(seed) for seed in SEEDS]}
    ((_, splits),) = splits_of(data_dir, ("LFM-cold",))
    values["LFM-cold"] = [_lastfm(split, seed) for seed, split in enumerate(splits)]
    return [
        row(case, contender, [value[contender] for value in of_case], METRIC)
        for case, of_case in values.items()
        for contender in ("ours", "frequency")
    ]


def _demo(seed: int) -> dict[str, float]:
    import dataclasses

    from benchmarks.cold_demo import World
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train

    with tempfile.TemporaryDirectory() as folder:
        world = World.read(Path(folder))
        settings = dataclasses.replace(world.config.retrieval, seed=seed)
        model = build(world.table, world.train, world.config.data, settings)
        train(model, world.train, world.eval, world.table)
        return _precision(model.item_tower, world.table, world.is_cold)


def _lastfm(split: Any, seed: int) -> dict[str, float]:
    from benchmarks.quality.ours import train_on

    content = {name: split.content[name] for name in AUDIO}
    trained = train_on(split.test, {}, seed, content, split.tags)
    return _precision(trained.model.item_tower, trained.table, split.test.candidates)


def _precision(tower: Any, table: Any, is_cold: np.ndarray) -> dict[str, float]:
    """On the cold items that have one of the head's tags."""
    from sklearn.metrics import label_ranking_average_precision_score

    rows = np.flatnonzero(is_cold)
    labels = tower.tag_head.labels(table.arrays["tag_ids"]).numpy()
    rows = rows[labels[rows].any(1)]
    warm = table.arrays["id_row"] > 0
    probabilities = np.concatenate(
        [tower.tags(table.take(rows[start : start + 64], tower.inputs)).numpy() for start in range(0, len(rows), 64)]
    )
    frequency = np.broadcast_to(labels[warm].mean(0), probabilities.shape)
    score = label_ranking_average_precision_score
    return {"ours": float(score(labels[rows], probabilities)), "frequency": float(score(labels[rows], frequency))}
