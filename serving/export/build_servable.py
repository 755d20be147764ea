"""Models, index, people and items -> the one-call SavedModels. The Recommender node calls `build_bundle`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.config import DataConfig
from components.datasets.interactions import latest, read_interactions
from components.datasets.items import encode_item_batches, read_item_metadata
from components.events.splits import SPLITS
from components.settings import from_json
from serving.config import ServingConfig
from serving.export.saved_model import export
from serving.index import ExactIndex, Index, load_index
from serving.online.catalog import Catalogue, Shelf
from serving.online.histories import Histories
from serving.online.pair_features import relative
from serving.online.recommender import Recommender, cold_start_scores
from serving.online.scorers import RankerOrder, RetrievalOrder
from trainer.config.ranking import RankingConfig, utility_weights
from trainer.evaluation.baselines import recent_popularity


def build_bundle(
    model_path: str,
    index_folder: str,
    sequence_folders: Mapping[str, str],
    items_folder: str,
    exact_path: str,
    scann_path: str,
    settings: str,
    ranker_path: str | None,
    data: str,
    ranking: str,
    withdrawn: Sequence[str] = (),
) -> dict[str, Any]:
    """Write both SavedModels and prove them (serving.export.saved_model).

    sequence_folders: split -> folder, of train, eval and test: all that is known of people is stored. items_folder: item examples.
    exact_path: for stock TensorFlow Serving. scann_path: over the index as measured; for a small catalogue the exact one, copied.
    settings: a ServingConfig as JSON. ranker_path: the ranker's SavedModel; None (none is blessed) leaves the order of retrieval. data,
    ranking: DataConfig and RankingConfig as JSON. withdrawn: ids that are never shown.
    Returns counts for the log. Raises ExportError where an export does not hold.
    """
    config = from_json(ServingConfig, settings)
    model = tf.saved_model.load(model_path)
    exact, item_ids = load_index(index_folder, "exact")
    as_measured, _ = load_index(index_folder)
    rules = from_json(DataConfig, data)
    facts = read_item_metadata(items_folder, item_ids, rules.categorical, rules.numeric)
    people = latest([read_interactions(sequence_folders[split], item_ids) for split in SPLITS])
    liked = people.positives
    popularity = recent_popularity(people.items[liked], people.times_s[liked], len(item_ids))
    now_s = int(np.nanmax(people.times_s)) if (~np.isnan(people.times_s)).any() else 0
    catalogue = Catalogue(
        item_ids,
        facts.domains.tolist(),
        cold_start_scores(popularity, facts.published_at_s),
        facts.creators.tolist(),
        withdrawn,
        facts.published_at_s,
        now_s,
    )
    free_rows = config.index.free_rows
    weights = utility_weights(rules.event_rules, from_json(RankingConfig, ranking))
    ranker = tf.saved_model.load(ranker_path) if ranker_path else None
    taken = np.pad(relative(np.bincount(people.items[liked], minlength=len(item_ids))), (0, free_rows))
    histories = Histories.of(people, rules.history_length)

    def recommender(index: Index) -> Recommender:
        shelf = Shelf(index, catalogue, free_rows)
        learned = model.signatures["learned_similarity"]
        order = (
            RankerOrder(ranker, facts.padded(free_rows), shelf, learned, taken, weights)
            if ranker
            else RetrievalOrder(len(weights))
        )
        return Recommender(model, shelf, histories, config, order)

    is_approximate = not isinstance(as_measured, ExactIndex)
    indexes = {exact_path: exact} | ({scann_path: as_measured} if is_approximate else {})
    recommenders = {path: recommender(index) for path, index in indexes.items()}
    some = np.unique(np.linspace(0, len(item_ids) - 1, min(6, len(item_ids))).astype(int))
    _, some_raw_items = next(encode_item_batches(model.signatures["encode_item"], items_folder, len(some)))
    requests = export(recommenders, people.user_ids[:3], [item_ids[row] for row in some], some_raw_items)
    if not is_approximate:
        _copy(exact_path, scann_path)
    return {
        "items": len(item_ids),
        "people": len(people.user_ids),
        "ranked": ranker is not None,
        "replayed_requests": sum(requests.values()),
    }


def _copy(source: str, target: str) -> None:
    for folder, _, files in tf.io.gfile.walk(source):
        inner = target + folder.removeprefix(source)
        tf.io.gfile.makedirs(inner)
        for name in files:
            tf.io.gfile.copy(f"{folder}/{name}", f"{inner}/{name}", overwrite=True)
