"""A catalogue of any size under the demo's trained towers and ranker, as a served model.

N items, U people, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.config import DataConfig
from components.datasets.items import ItemMetadata
from serving.config import IndexConfig, ServingConfig
from serving.export import replay, saved_model
from serving.index import ScannIndex
from serving.offline.build_index import build_vector_index, measure_recall, tune_scann
from serving.online.catalog import IndexedItems, LiveCatalog
from serving.online.histories import Histories
from serving.online.recommender import RecommenderModel
from serving.online.scorers import RankerScorer
from trainer.config.ranking import RankingConfig, utility_weights

NUM_PEOPLE, HISTORY = 2000, 30
NOW_S = 1_700_000_000
DOMAINS = ("music", "video", "film", "game", "course")
INSERT_CAPACITY = 1000


def item_vectors(num_items: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors in clusters of some 200, as item vectors are: float32 [N, D]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, num_items // 200), dim)).astype(np.float32)
    vectors = centres[rng.integers(len(centres), size=num_items)] + 0.7 * rng.normal(size=(num_items, dim)).astype(
        np.float32
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(
    folder: Path, num_items: int, kind: str, towers: str, ranker: str, data: DataConfig, ranking: RankingConfig
) -> dict[str, Any]:
    """A version with warm-up requests in the folder; what the index found of the exact top 200, for a ScaNN one.

    towers, ranker: SavedModels of a finished run.
    """
    rng = np.random.default_rng(1)
    model = tf.saved_model.load(towers)
    dim = model.signatures["user_tower"].structured_input_signature[1]["history_vectors"].shape[2]
    vectors = item_vectors(num_items, dim)
    ids = [f"item{row:07d}" for row in range(num_items)]
    config = ServingConfig(IndexConfig(kind=kind))  # type: ignore[arg-type]
    index = build_vector_index(vectors, ids, config.index)
    found = {}
    if isinstance(index, ScannIndex):
        queries = _queries(vectors, rng)
        tune_scann(index, queries, config.index.min_recall)
        found = {"recall@200": measure_recall(index, queries, 200), **index.parameters}
    domains = rng.choice(DOMAINS, num_items).tolist()
    creators = [f"creator{number}" for number in rng.integers(num_items // 20 + 1, size=num_items)]
    items = IndexedItems(ids, domains, rng.random(num_items).astype(np.float32), creators, now_s=NOW_S)
    catalog = LiveCatalog(index, items, INSERT_CAPACITY)
    facts = ItemMetadata(
        np.array(domains, object),
        np.array(creators, object),
        np.full((num_items, len(data.categorical)), "", object),
        rng.uniform(30, 3000, (num_items, 1 + len(data.numeric))).astype(np.float32),
        NOW_S - rng.uniform(0, 3e8, num_items),
    )
    popularity = np.pad(rng.exponential(size=num_items).astype(np.float32), (0, INSERT_CAPACITY))
    weights = utility_weights(data.event_rules, ranking)
    learned = model.signatures["learned_similarity"]
    scorer = RankerScorer(
        tf.saved_model.load(ranker), facts.padded(INSERT_CAPACITY), catalog, learned, popularity, weights
    )
    recommender = RecommenderModel(model, catalog, _histories(num_items, sorted(data.event_rules), rng), config, scorer)
    saved_model.save(recommender, str(folder))
    signatures = saved_model.load(str(folder)).signatures
    specs = signatures["recommend"].structured_input_signature[1]
    replay.record(
        str(folder), replay.in_process(signatures), [("recommend", request(user, specs)) for user in people(8)]
    )
    return found


def people(count: int) -> list[str]:
    """Ids of people who are known, in an order of their own."""
    return [f"user{row}" for row in np.random.default_rng(2).permutation(NUM_PEOPLE)[:count]]


def request(user_id: str, specs: Mapping[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """A page of 20 by the person's id, varied, at most three of a creator; the rest at the value that says nothing."""
    values = {"user_id": user_id, "k": 20, "diversity": 0.3, "max_per_creator": 3, "time_s": NOW_S}
    return {
        name: tf.fill(
            [1] + [0] * (len(spec.shape) - 1),
            tf.cast(values.get(name, "" if spec.dtype == tf.string else 0), spec.dtype),
        )
        for name, spec in specs.items()
    }


def _queries(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    taken = vectors[rng.integers(len(vectors), size=(200, 5))].sum(1)
    return taken / np.linalg.norm(taken, axis=1, keepdims=True)


def _histories(num_items: int, events: list[str], rng: np.random.Generator) -> Histories:
    size = NUM_PEOPLE * HISTORY
    return Histories(
        [f"user{row}" for row in range(NUM_PEOPLE)],
        np.arange(NUM_PEOPLE + 1) * HISTORY,
        rng.integers(num_items, size=size).astype(np.int32),
        rng.integers(len(events), size=size).astype(np.int32),
        np.sort(rng.uniform(0, 1e7, (NUM_PEOPLE, HISTORY)))[:, ::-1].ravel().astype(np.float32),
        events,
        DataConfig.history_length,
    )
