"""Model, index, people and items -> the one-call SavedModels. The Recommender node calls `build_bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.settings import from_json
from serving.config import ServingConfig
from serving.export import export
from serving.index import ExactIndex, load_index
from serving.people import SPLITS, histories_of, latest, raw_items, read_item_facts, read_people, recent_popularity
from serving.recommender import Catalogue, Recommender, cold_start_scores


def build_bundle(
    model_path: str,
    index_folder: str,
    sequence_folders: Mapping[str, str],
    items_folder: str,
    exact_path: str,
    scann_path: str,
    settings: str,
) -> dict[str, Any]:
    """Write both SavedModels and prove them (serving.export).

    sequence_folders: split -> folder, of train, eval and test: all that is known of people is stored. items_folder: item examples.
    exact_path: for stock TensorFlow Serving. scann_path: over the index as measured; for a small catalogue the exact one, copied.
    settings: a ServingConfig as JSON. Returns counts for the log. Raises ExportError where an export does not hold.
    """
    config = from_json(ServingConfig, settings)
    model = tf.saved_model.load(model_path)
    exact, item_ids = load_index(index_folder, "exact")
    as_measured, _ = load_index(index_folder)
    domains, published_at_s = read_item_facts(items_folder, item_ids)
    people = latest([read_people(sequence_folders[split], item_ids) for split in SPLITS])
    liked = people.positives
    popularity = recent_popularity(people.items[liked], people.times_s[liked], len(item_ids))
    catalogue = Catalogue(item_ids, domains, cold_start_scores(popularity, published_at_s))
    histories = histories_of(people)
    is_approximate = not isinstance(as_measured, ExactIndex)
    indexes = {exact_path: exact} | ({scann_path: as_measured} if is_approximate else {})
    recommenders = {path: Recommender(model, index, catalogue, histories, config) for path, index in indexes.items()}
    some = np.unique(np.linspace(0, len(item_ids) - 1, min(6, len(item_ids))).astype(int))
    _, some_raw_items = next(raw_items(model.signatures["encode_item"], items_folder, len(some)))
    requests = export(recommenders, people.user_ids[:3], [item_ids[row] for row in some], some_raw_items)
    if not is_approximate:
        _copy(exact_path, scann_path)
    return {"items": len(item_ids), "people": len(people.user_ids), "replayed_requests": sum(requests.values())}


def _copy(source: str, target: str) -> None:
    for folder, _, files in tf.io.gfile.walk(source):
        inner = target + folder.removeprefix(source)
        tf.io.gfile.makedirs(inner)
        for name in files:
            tf.io.gfile.copy(f"{folder}/{name}", f"{inner}/{name}", overwrite=True)
