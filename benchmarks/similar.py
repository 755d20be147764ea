"""Whether an item's neighbours are like it: those listed by content, by behaviour and by both, in a made world.

Reads the artifacts of a finished `./zhiyin demo` (runs/demo) and trains on them anew. What is true is the cosine of the
traits that the world's items were made from. P@10: how many of the ten listed are among the ten truly nearest;
likeness: the mean cosine of the traits with those listed. `ours` is the list by content. Beside it: the columns that
the linear map reads, each block weighted by what it alone tells of where listeners put items left out, and single
blocks.
Cost on two cores: two minutes.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cold_demo import SEEDS, World, row

if TYPE_CHECKING:
    from trainer.data import ItemTable
    from trainer.towers.item_tower import ItemTower

CUTOFF = 10
METRICS = (f"P@{CUTOFF}", "likeness")
CASES = ("taken items", "cold items")
GOALS: list[dict[str, Any]] = [
    {"case": case, "metric": metric, "at_least": 1.03, "of": "best single block"}
    for case in CASES
    for metric in METRICS
]


def run(data_dir: Path | None) -> list[dict[str, Any]]:
    """Rows of every contender. Raises SettingsError where no demo has run."""
    del data_dir
    values: dict[tuple[str, str, str], list[float]] = {}
    for seed in SEEDS:
        for key, value in _of_seed(seed).items():
            values.setdefault(key, []).append(value)
    return [row(case, contender, of_seeds, metric) for (case, contender, metric), of_seeds in values.items()]


def nearness(vectors: np.ndarray, traits: np.ndarray) -> dict[str, np.ndarray]:
    """How near the ten nearest by vectors [N, D] are by true traits [N, T], by metric: float [N]."""
    alike, true = (_cosines(values) for values in (vectors, traits))
    listed, nearest = (np.argsort(-cosines, 1, kind="stable")[:, :CUTOFF] for cosines in (alike, true))
    hits = (listed[:, :, None] == nearest[:, None]).any(2).mean(1)
    return dict(zip(METRICS, (hits, np.take_along_axis(true, listed, 1).mean(1))))


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """Of all pairs, the last for an item with itself: float [N, N]."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    cosines = units @ units.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines


def _of_seed(seed: int) -> dict[tuple[str, str, str], float]:
    """(case, contender, metric) -> value of one training."""
    from pipeline.sources.demo.ground_truth import load_truth
    from trainer.retrieval.run import build
    from trainer.retrieval.train import train

    with tempfile.TemporaryDirectory() as folder:
        world = World.read(Path(folder))
        settings = dataclasses.replace(world.config.retrieval, seed=seed)
        model = build(world.table, world.train, world.config.data, settings)
        train(model, world.train, world.eval, world.table)
        truth = load_truth(Path(world.config.ground_truth))
        traits = truth.traits[truth.item_rows([item_id.decode() for item_id in world.table.item_ids])]
        contenders = {
            name: nearness(values, traits) for name, values in _vectors(model.item_tower, world.table).items()
        }
    found: dict[tuple[str, str, str], float] = {}
    for case, rows in zip(CASES, (~world.is_cold, world.is_cold)):
        for metric in METRICS:
            of_case = {name: float(values[metric][rows].mean()) for name, values in contenders.items()}
            of_case["best single block"] = max(value for name, value in of_case.items() if name.startswith("only "))
            found |= {(case, name, metric): value for name, value in of_case.items()}
    return found


def _vectors(tower: ItemTower, table: ItemTable) -> dict[str, np.ndarray]:
    """Contender -> float [N, D], by which it compares."""
    from serving.online.catalog import from_mean
    from trainer.encoders.ridge import explained
    from trainer.keras import tf

    views = tower.encode_views(table)
    content, warm = views["content"], np.flatnonzero(table.arrays["id_row"])
    columns = {name: tf.constant(array) for name, array in table.take(np.arange(len(table)), tower.inputs).items()}
    blocks = [block.numpy()[:, :-1] for block in tower.linear.design(tower.complete(columns))]
    shares = [explained(block[warm], tower.id_embeddings(table, warm)) for block in blocks]
    directions = [from_mean(block, block[warm].mean(0)).numpy() for block in blocks]
    return {
        "ours": from_mean(content, content.mean(0)).numpy(),
        "content, not from its mean": content,
        "behaviour": views["behaviour"],
        "both": views["vector"],
        "weighted columns": np.concatenate([share**0.5 * one for share, one in zip(shares, directions)], 1),
        **{f"only {block.label}": values for block, values in zip(tower.linear.blocks, directions)},
        "random": np.random.default_rng(0).normal(size=content.shape),
    }
