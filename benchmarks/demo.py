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

from benchmarks.cold_demo import CUTOFF, METRIC, SEEDS, World, newest, row
from pipeline import synthetic_oracle

NAME = "demo"
PART = "cold items among cold"
CASES = {
    "text": ("text", "tags"),
    "audio": ("audio",),
    "video": ("video",),
    "without text": ("audio", "video"),
    "fused": (),
}
REFERENCES = {synthetic_oracle.LINEAR: "linear on true traits", synthetic_oracle.ORACLE: "oracle"}
HALFWAY = "halfway from random to linear"
GOALS = [
    {"case": "fused", "metric": METRIC, "at_least": 1.0, "of": HALFWAY},
    {"case": "fused", "metric": METRIC, "at_least": 0.8, "of": REFERENCES[synthetic_oracle.LINEAR]},
    {"case": "without text", "metric": METRIC, "at_least": 0.8, "of": REFERENCES[synthetic_oracle.LINEAR]},
    *(
        {"case": "fused", "metric": METRIC, "at_least": 1.0, "of": f"{name} alone"}
        for name in ("text", "audio", "video")
    ),
]
RESERVATIONS: dict[str, tuple[str, ...]] = {
    "the test's cold items were looked at while the statistics of the content were chosen on others": (*CASES,),
}


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of `ours` for each case, and of the peers on the same test set."""
    with tempfile.TemporaryDirectory() as folder:
        world = World.read(Path(folder) / "table")
        trained = {case: [_ours(world, modalities, seed) for seed in SEEDS] for case, modalities in CASES.items()}
    config = world.config
    artifacts = config.work_path / "artifacts"
    stored = newest(artifacts / "RetrievalEvaluator" / "evaluation") / "metrics.json"
    peers = {
        each["contender"]: each["value"]
        for each in json.loads(stored.read_text(encoding="utf-8"))["rows"]
        if (each["slice"], each["metric"]) == (PART, METRIC)
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
        REFERENCES[each["contender"]]: each["value"]
        for each in made_world
        if (each["slice"], each["metric"]) == (PART, METRIC)
    }
    peers[HALFWAY] = (peers["random"] + peers["linear on true traits"]) / 2
    rows = [
        row(case, "ours", [result[metric] for result in results], metric)
        for case, results in trained.items()
        for metric in results[0]
    ]
    alone = {each["case"]: each["value"] for each in rows if each["metric"] == METRIC}
    peers |= {f"{name} alone": alone[name] for name in ("text", "audio", "video")}
    rows += [row("fused", name, [value]) for name, value in peers.items()]
    return rows + [row("without text", name, [peers[name]]) for name in REFERENCES.values()]


def _ours(world: World, modalities: tuple[str, ...], seed: int) -> dict[str, float]:
    """Among the cold items NDCG@10; among all of them the share of cold items in the lists, and in what was taken."""
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train
    from trainer.retrieval.validation import user_vectors

    retrieval, questions, table = world.config.retrieval, world.questions, world.fresh_table()
    settings = dataclasses.replace(retrieval, modalities=modalities, use_attributes=not modalities, seed=seed)
    model = build(table, world.train, world.config.data, settings)
    train(model, world.train, world.eval, table)
    vectors = model.item_tower.encode(table)
    users = np.flatnonzero(questions.truth.getnnz(1))
    hidden = (questions.seen[users].toarray() > 0) | questions.unavailable(users)
    scores = np.where(hidden, -np.inf, user_vectors(model, world.test, vectors, users) @ vectors.T)
    lists = np.argsort(-scores, axis=1)[:, :CUTOFF]
    taken = questions.truth[users]
    return {
        METRIC: world.ndcg(model, table),
        "share_of_cold_in_lists": float(world.is_cold[lists].mean()),
        "share_of_cold_in_truth": float(taken[:, world.is_cold].nnz / taken.nnz),
    }
