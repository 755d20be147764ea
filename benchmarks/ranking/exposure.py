"""What diversity and exploration do to the lists: who is shown, how often, and what it costs. Through the answer as it
is served.

The answer is built from what was known before the test split, and asked by everybody in it at the time of their first
event there. N items, U people.
"""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from benchmarks.cold_demo import newest
from benchmarks.ranking import row
from components.datasets.interactions import read_interactions
from components.datasets.items import available_from_s, read_item_metadata
from components.events.splits import SPLITS
from pipeline import config as configuration
from serving.export import saved_model
from serving.export.build_servable import ServableParts, build_servables
from serving.index import load_index
from serving.offline.evaluation import TestSet
from trainer.evaluation.metrics import evaluate

DIVERSITIES, EXPLORE_SHARES = (0.0, 0.1, 0.3, 0.5), (0.0, 0.1, 0.2)
SEEDS = (1, 2, 3)  # of exploration
K = 10
USERS_AT_ONCE = 256


def report(case: str, config_path: Path) -> list[dict[str, Any]]:
    """Rows of each diversity and share of exploration.

    `gini` of how often each item is shown (0 = all alike), `coverage`, the share of items shown at all, `share of new
    items` in the lists, those that nobody has played in the train split, `likeness`, the mean cosine of two items of a
    list, and NDCG@10 over the people.
    """
    config = configuration.localised(configuration.load(config_path))
    artifacts = config.work_path / "artifacts"
    sequences, index_folder = (
        newest(artifacts / "Interactions" / "sequences"),
        newest(artifacts / "ItemIndex" / "index"),
    )
    index, item_ids = load_index(str(index_folder), "exact")
    vectors, row_of = index.vectors.numpy(), {item_id.encode(): number for number, item_id in enumerate(item_ids)}
    splits = [read_interactions(str(sequences / f"Split-{split}"), item_ids) for split in SPLITS]
    train, test = splits[0], splits[-1]
    is_new = np.asarray(train.matrix(train.positives, len(item_ids)).sum(0)).ravel() == 0
    items = str(newest(artifacts / "MediaFeatures" / "examples") / "Split-train")
    metadata = read_item_metadata(items, item_ids)
    questions = TestSet.of(test, available_from_s(metadata, config.data, splits))
    asked_at_s = np.nan_to_num(questions.asked_at_s).astype(np.int64)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        known = {split: str(sequences / f"Split-{split}") for split in ("train", "eval")}
        parts = ServableParts(
            str(newest(artifacts / "RetrievalTrainer" / "model") / "Format-Serving"),
            str(index_folder),
            known | {"test": known["eval"]},  # nothing of the test itself
            items,
            str(newest(artifacts / "RankingTrainer" / "model") / "Format-Serving"),
        )
        build_servables(parts, f"{folder}/exact", f"{folder}/scann", config.serving, config.data, config.ranking)
        recommend = saved_model.load(f"{folder}/exact").signatures["recommend"]
        for diversity, explore_share in product(DIVERSITIES, EXPLORE_SHARES):
            setting = f"{case}, diversity {diversity:g}, explore {explore_share:g}"
            seeds = SEEDS if explore_share else SEEDS[:1]
            pages = [
                _pages(recommend, test.user_ids, asked_at_s, diversity, explore_share, seed, row_of) for seed in seeds
            ]
            results = [
                evaluate(_as_scores(page, len(item_ids)), questions.truth, questions.seen, (K,)) for page in pages
            ]
            shown = np.concatenate(pages)
            cosines = np.einsum("ukd,uld->ukl", vectors[shown], vectors[shown])
            likeness = (cosines.sum((1, 2)) - K) / (K * (K - 1))
            values = {
                "gini": np.mean([result.totals[f"gini@{K}"] for result in results]),
                "coverage": np.mean([result.totals[f"coverage@{K}"] for result in results]),
                "share of new items": is_new[shown].mean(),
                "likeness": likeness.mean(),
            }
            rows += [row(setting, "ours", metric, float(value), None, len(seeds)) for metric, value in values.items()]
            mean = np.mean([result.values[f"NDCG@{K}"] for result in results], 0)
            half = 1.96 * mean.std(ddof=1) / np.sqrt(len(mean))
            rows.append(
                row(
                    setting,
                    "ours",
                    f"NDCG@{K}",
                    float(mean.mean()),
                    (mean.mean() - half, mean.mean() + half),
                    len(seeds),
                )
            )
    return rows


def _pages(
    recommend: Any,
    user_ids: list[str],
    asked_at_s: np.ndarray,
    diversity: float,
    explore_share: float,
    seed: int,
    row_of: dict[bytes, int],
) -> np.ndarray:
    """The pages of everybody: int [U, K]. Each person has a seed of their own, and asks when their test begins.

    asked_at_s: int64 [U], seconds since 1970, 0 where unknown.
    """
    specs = recommend.structured_input_signature[1]
    pages = []
    for start in range(0, len(user_ids), USERS_AT_ONCE):
        people = user_ids[start : start + USERS_AT_ONCE]
        size = len(people)
        asked = {
            name: tf.fill([size] + [0] * (len(spec.shape) - 1), tf.zeros([], spec.dtype))
            for name, spec in specs.items()
            if spec.dtype != tf.string
        }
        asked |= {
            name: tf.fill([size] + [0] * (len(spec.shape) - 1), "")
            for name, spec in specs.items()
            if spec.dtype == tf.string
        }
        asked |= {"user_id": tf.constant(people), "k": tf.fill([size], K), "diversity": tf.fill([size], diversity)}
        asked["time_s"] = tf.constant(asked_at_s[start : start + size])
        asked |= {"explore_share": tf.fill([size], explore_share), "seed": tf.range(start, start + size) + 1000 * seed}
        pages.append([[row_of[item_id] for item_id in page] for page in recommend(**asked)["item_ids"].numpy()])
    return np.concatenate(pages)


def _as_scores(pages: np.ndarray, num_items: int):
    """The pages as scores, so that the metrics of full rankings judge them."""
    ranks = np.tile(np.arange(K, 0, -1.0), len(pages))
    table = sp.csr_matrix((ranks, (np.repeat(np.arange(len(pages)), K), pages.ravel())), (len(pages), num_items))
    return lambda users: np.asarray(table[users].todense())
