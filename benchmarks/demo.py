"""The demo world's items that nobody has played, ranked among themselves: each modality alone and all together, beside
the references.

Reads the artifacts of a finished `./zhiyin demo` (runs/demo) and trains the retrieval model anew for each case and
seed.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from components.settings import SettingsError
from pipeline import config as configuration
from pipeline import synthetic_oracle

NAME = "demo"
METRIC, CUTOFFS = "NDCG@10", (10,)
SEEDS = (7, 8, 9)
PART = "cold items among cold"
CASES = {
    "text": ("text", "tags"),
    "audio": ("audio",),
    "video": ("video",),
    "without text": ("audio", "video"),
    "fused": (),
}
REFERENCES = {synthetic_oracle.LINEAR: "linear on true traits", synthetic_oracle.ORACLE: "oracle"}
GOALS = [
    {"case": "fused", "metric": METRIC, "at_least": 1.0, "of": "halfway"},
    {"case": "fused", "metric": METRIC, "at_least": 0.8, "of": "linear"},
    {"case": "without text", "metric": METRIC, "at_least": 0.8, "of": "linear"},
    *(
        {"case": "fused", "metric": METRIC, "at_least": 1.0, "of": f"{name} alone"}
        for name in ("text", "audio", "video")
    ),
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of `ours` for each case, and of the peers on the same test set."""
    config = configuration.localised(configuration.load(Path("configs/demo.yaml")))
    artifacts = config.work_path / "artifacts"
    stored = newest(artifacts / "RetrievalEvaluator" / "evaluation") / "metrics.json"
    peers = {
        row["contender"]: row["value"]
        for row in json.loads(stored.read_text(encoding="utf-8"))["rows"]
        if (row["slice"], row["metric"]) == (PART, METRIC)
    }
    peers.pop("ours")
    made_world = synthetic_oracle.rows(
        Path(config.ground_truth),
        newest(artifacts / "ItemIndex" / "index"),
        newest(artifacts / "Interactions" / "sequences"),
        newest(artifacts / "MediaFeatures" / "examples"),
        config.evaluation,
        config.data,
    )
    peers |= {
        REFERENCES[row["contender"]]: row["value"]
        for row in made_world
        if (row["slice"], row["metric"]) == (PART, METRIC)
    }
    peers["halfway from random to linear"] = (peers["random"] + peers["linear on true traits"]) / 2
    rows = []
    for case, modalities in CASES.items():
        results = [_ours(config, artifacts, modalities, seed) for seed in SEEDS]
        for metric in results[0]:
            values = [result[metric] for result in results]
            spread = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
            mean = float(np.mean(values))
            rows.append(_row(case, "ours", metric, mean, (mean - spread, mean + spread)))
    alone = {row["case"]: row["value"] for row in rows if row["metric"] == METRIC}
    peers |= {f"{name} alone": alone[name] for name in ("text", "audio", "video")}
    beside = [_row("fused", name, METRIC, value) for name, value in peers.items()]
    return rows + beside + [_row("without text", name, METRIC, peers[name]) for name in REFERENCES.values()]


def _ours(config: configuration.Config, artifacts: Path, modalities: tuple[str, ...], seed: int) -> dict[str, float]:
    """Among the cold items NDCG@10; among all of them the share of cold items in the lists, and in what was taken."""
    from components.datasets.interactions import read_interactions
    from trainer.data import ItemTable, vocabulary_sizes
    from trainer.evaluation import metrics
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train
    from trainer.retrieval.validation import targets_and_history, user_vectors

    settings = dataclasses.replace(config.retrieval, modalities=modalities, use_attributes=not modalities, seed=seed)
    sizes = vocabulary_sizes(str(newest(artifacts / "ItemTransform" / "transform_graph")), config.data)
    sequences = newest(artifacts / "Interactions" / "sequences")
    with tempfile.TemporaryDirectory() as folder:
        items = newest(artifacts / "ItemTransform" / "transformed_examples") / "Split-train"
        table = ItemTable.build(str(items), config.data, Path(folder), sizes)
        kinds = tuple(config.data.event_rules)
        train_split, eval_split, test = (
            read_interactions([f"{sequences}/Split-{split}/*"], table.item_ids, kinds)
            for split in ("train", "eval", "test")
        )
        model = build(table, train_split, config.data, settings)
        train(model, train_split, eval_split, table)
        vectors = model.item_tower.encode(table)
        truth, seen = targets_and_history(test, len(table))
        is_cold = train_split.counts(len(table)) == 0

        def scores(users: np.ndarray) -> np.ndarray:
            return user_vectors(model, test, vectors, users) @ vectors.T

        among_cold = metrics.evaluate(scores, truth, seen, cutoffs=CUTOFFS, candidates=is_cold)
        users = np.flatnonzero(truth.getnnz(1))
        table_of_scores = np.where(seen[users].toarray() > 0, -np.inf, scores(users))
        lists = np.argsort(-table_of_scores, axis=1)[:, : CUTOFFS[0]]
        return {
            METRIC: among_cold.mean(METRIC),
            "share_of_cold_in_lists": float(is_cold[lists].mean()),
            "share_of_cold_in_truth": float(truth[users][:, is_cold].nnz / truth[users].nnz),
        }


def newest(folder: Path) -> Path:
    runs = [path for path in folder.glob("*") if path.name.isdigit()]
    if not runs:
        raise SettingsError(f"there is no finished demo: {folder} is empty; run ./zhiyin demo first")
    return max(runs, key=lambda path: int(path.name))


def _row(
    case: str, contender: str, metric: str, value: float, interval: tuple[float, float] | None = None
) -> dict[str, Any]:
    low, high = interval or (None, None)
    runs = len(SEEDS) if contender == "ours" else 1
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "runs": runs,
    }
