"""The demo world's items that nobody has played, ranked among themselves: each modality alone and all together, beside the references.

Reads the artifacts of a finished `./zhiyin demo` (runs/demo) and trains the retrieval model anew for each case and seed.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import references

NAME = "demo"
METRIC, CUTOFFS = "NDCG@10", (10,)
SEEDS = (7, 8, 9)
PART = "cold items among cold"
CASES = {"text": ("text", "tags"), "audio": ("audio",), "video": ("video",), "fused": ()}
REFERENCES = {references.LINEAR: "linear on true traits", references.ORACLE: "oracle"}
GOALS = [
    {"case": "fused", "metric": METRIC, "at_least": 1.0, "of": "halfway"},
    {"case": "fused", "metric": METRIC, "at_least": 0.8, "of": "linear"},
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of `ours` for each case, and of the peers on the same test set."""
    config = configuration.localised(configuration.load(Path("configs/demo.yaml")))
    artifacts = config.work_path / "artifacts"
    stored = _newest(artifacts / "RetrievalEvaluator" / "evaluation") / "metrics.json"
    peers = {
        row["contender"]: row["value"]
        for row in json.loads(stored.read_text(encoding="utf-8"))["rows"]
        if (row["slice"], row["metric"]) == (PART, METRIC)
    }
    peers.pop("ours")
    made_world = references.rows(
        Path(config.references),
        _newest(artifacts / "ItemIndex" / "index"),
        _newest(artifacts / "Interactions" / "sequences"),
        _newest(artifacts / "MediaFeatures" / "examples"),
        config.evaluation,
    )
    peers |= {REFERENCES[row["contender"]]: row["value"] for row in made_world if (row["slice"], row["metric"]) == (PART, METRIC)}
    peers["halfway from random to linear"] = (peers["random"] + peers["linear on true traits"]) / 2
    rows = []
    for case, modalities in CASES.items():
        values = [_ours(config, artifacts, modalities, seed) for seed in SEEDS]
        spread = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
        rows.append(
            _row(case, "ours", float(np.mean(values)), float(np.mean(values) - spread), float(np.mean(values) + spread), len(values))
        )
    return rows + [_row("fused", name, value, None, None, 1) for name, value in peers.items()]


def _ours(config: configuration.Config, artifacts: Path, modalities: tuple[str, ...], seed: int) -> float:
    from trainer import metrics
    from trainer.data import ItemTable, Sequences
    from trainer.retrieval import targets_and_history, train, user_vectors
    from trainer.run_retrieval import build, vocabulary_sizes

    settings = dataclasses.replace(config.retrieval, modalities=modalities, use_attributes=not modalities, seed=seed)
    sizes = vocabulary_sizes(str(_newest(artifacts / "ItemTransform" / "transform_graph")), config.data)
    sequences = _newest(artifacts / "Interactions" / "sequences")
    with tempfile.TemporaryDirectory() as folder:
        items = _newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"
        table = ItemTable.build(str(items), config.data, Path(folder), sizes)
        kinds = tuple(config.data.event_rules)
        train_split, eval_split, test = (
            Sequences.read([f"{sequences}/Split-{split}/*"], table.index, kinds) for split in ("train", "eval", "test")
        )
        model = build(table, train_split, config.data, settings)
        train(model, train_split, eval_split, table)
        vectors = model.item_tower.encode(table)
        truth, seen = targets_and_history(test, len(table))
        is_cold = train_split.counts(len(table)) == 0
        result = metrics.evaluate(
            lambda users: user_vectors(model, test, vectors, users) @ vectors.T, truth, seen, cutoffs=CUTOFFS, candidates=is_cold
        )
        return result.mean(METRIC)


def _newest(folder: Path) -> Path:
    runs = [path for path in folder.glob("*") if path.name.isdigit()]
    if not runs:
        raise SettingsError(f"there is no finished demo: {folder} is empty; run ./zhiyin demo first")
    return max(runs, key=lambda path: int(path.name))


def _row(case: str, contender: str, value: float, low: float | None, high: float | None, runs: int) -> dict[str, Any]:
    return {"case": case, "contender": contender, "metric": METRIC, "value": value, "low": low, "high": high, "runs": runs}
