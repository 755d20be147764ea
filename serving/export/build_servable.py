"""Assembles the servable models: retrieval model, index, ranker, histories and catalogue as one SavedModel with named
signatures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from components.config import DataConfig
from components.contract import BEHAVIOUR, CONTENT
from components.datasets.interactions import Interactions, latest, read_interactions
from components.datasets.items import ItemMetadata, available_from_s, encode_item_batches, read_item_metadata
from components.events.splits import SPLITS
from serving.config import ServingConfig
from serving.export.saved_model import export_servables
from serving.index import ExactIndex, VectorIndex, load_index, load_views
from serving.loaded import load_once
from serving.online.catalog import IndexedItems, LiveCatalog
from serving.online.cold_start import cold_start_scores
from serving.online.histories import Histories
from serving.online.pair_features import relative
from serving.online.recommender import RecommenderModel
from serving.online.scorers import RankerScorer, RetrievalScorer, Scorer
from trainer.config.ranking import RankingConfig, utility_weights
from trainer.evaluation.baselines import recent_popularity
from trainer.ranking.reads import check_reads


@dataclass(frozen=True)
class ServableParts:
    """Where the parts of a servable lie.

    retrieval: SavedModel of the towers.
    index: folder that `serving.index.save_index` and `save_views` wrote.
    sequences: split -> folder, of train, eval and test: all that is known of users is stored.
    items: folder of item examples.
    ranker: SavedModel; None (none is blessed) leaves the order of retrieval.
    """

    retrieval: str
    index: str
    sequences: Mapping[str, str]
    items: str
    ranker: str | None


def build_servables(
    parts: ServableParts,
    exact_path: str,
    scann_path: str,
    serving: ServingConfig,
    data: DataConfig,
    ranking: RankingConfig,
    withdrawn: Sequence[str] = (),
) -> dict[str, Any]:
    """Write both SavedModels with recorded requests (`export_servables`).

    exact_path: for stock TensorFlow Serving. scann_path: over the index as measured; for a small catalogue the exact
    one, copied.
    withdrawn: ids that are never shown.
    Returns counts for the log.
    Raises SettingsError where the ranker reads other names than `data` has; ExportError where an export holds a Python
    op.
    """
    if parts.ranker:
        check_reads(parts.ranker, data)
    retrieval = load_once(parts.retrieval)
    ranker = tf.saved_model.load(parts.ranker) if parts.ranker else None
    exact, item_ids = load_index(parts.index, "exact")
    as_measured, _ = load_index(parts.index)
    metadata = read_item_metadata(parts.items, item_ids, data.categorical, data.numeric)
    known = latest([read_interactions(parts.sequences[split], item_ids) for split in SPLITS])
    items, views = _indexed_items(item_ids, metadata, known, withdrawn, serving, data), load_views(parts.index)
    items = replace(items, content=views.get(CONTENT, ()), behaviour=views.get(BEHAVIOUR, ()))
    # The ranker's order of objectives: it was trained with settings that came as canonical JSON, whose keys are sorted.
    weights = dict(sorted(utility_weights(data.event_rules, ranking).items()))
    capacity = serving.index.insert_capacity
    counts = np.bincount(known.items[known.positives], minlength=len(item_ids))
    histories = Histories.of(known, data.history_length)

    def recommender(index: VectorIndex) -> RecommenderModel:
        catalog = LiveCatalog(index, items, capacity)
        scorer: Scorer = RetrievalScorer(len(weights))
        if ranker:
            learned = retrieval.signatures["learned_similarity"]
            popularity = np.pad(relative(counts), (0, capacity))
            scorer = RankerScorer(ranker, metadata.padded(capacity), catalog, learned, popularity, weights)
        return RecommenderModel(retrieval, catalog, histories, serving, scorer)

    is_approximate = not isinstance(as_measured, ExactIndex)
    indexes = {exact_path: exact} | ({scann_path: as_measured} if is_approximate else {})
    recommenders = {path: recommender(index) for path, index in indexes.items()}
    some = np.unique(np.linspace(0, len(item_ids) - 1, min(6, len(item_ids))).astype(int))
    _, some_raw_items = next(encode_item_batches(retrieval.signatures["encode_item"], parts.items, len(some)))
    requests = export_servables(recommenders, known.user_ids[:3], [item_ids[row] for row in some], some_raw_items)
    if not is_approximate:
        _copy(exact_path, scann_path)
    return {
        "items": len(item_ids),
        "people": len(known.user_ids),
        "ranked": ranker is not None,
        "replayed_requests": sum(requests.values()),
    }


def _indexed_items(
    item_ids: Sequence[str],
    metadata: ItemMetadata,
    known: Interactions,
    withdrawn: Sequence[str],
    serving: ServingConfig,
    data: DataConfig,
) -> IndexedItems:
    liked = known.positives
    popularity = recent_popularity(known.items[liked], known.times_s[liked], len(item_ids))
    times_s = known.times_s[~np.isnan(known.times_s)]
    return IndexedItems(
        item_ids,
        metadata.domains.tolist(),
        cold_start_scores(popularity, metadata.published_at_s),
        metadata.creators.tolist(),
        withdrawn,
        metadata.published_at_s,
        () if serving.show_unreleased else available_from_s(metadata, data, [known]),
        int(times_s.max(initial=0)),
    )


def _copy(source: str, target: str) -> None:
    for folder, _, files in tf.io.gfile.walk(source):
        inner = target + folder.removeprefix(source)
        tf.io.gfile.makedirs(inner)
        for name in files:
            tf.io.gfile.copy(f"{folder}/{name}", f"{inner}/{name}", overwrite=True)
