"""Sequences, retrieval model and index -> ranking examples. The RankingExamples node calls `write_ranking_examples`.

A query is a person's first interaction with an item, at its time: the item taken, liked or skipped, stands beside
others that an answer could have held then. Nothing but what people choose tells it from them: where they choose by
chance, no ranker is better than chance (docs/decisions/0045-honest-ranking-examples.md).

Retrieval was fitted on the interactions of the train split, so there the taken item looks more alike to the person than
it ever will when serving. Training therefore sees two kinds of queries and a feature that tells them apart: of the
train split (all seasons of the catalogue), and of the eval split (what retrieval has not seen). Some people of the eval
split are held out of training: by them it is stopped and calibrated. Q queries, C candidates of a query, N items.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.config import DataConfig
from components.datasets.exposures import ShownLists, read_exposures
from components.datasets.interactions import Interactions, latest, read_interactions, window
from components.datasets.items import ItemMetadata, available_from_s, read_item_metadata
from components.events.splits import SPLITS
from components.settings import from_json
from serving.index import load_index
from serving.loaded import load_once
from serving.offline.encoding import encode_users
from serving.offline.ranking_candidates import Queries, Sampling, candidates_of
from serving.online.pair_features import PER_ITEM, PER_REQUEST, PairFeatures
from trainer.config.ranking import RankingConfig, labels_of
from trainer.ranking.features import (
    HISTORY_SLICE,
    LONG_FROM,
    LONG_HISTORY,
    POSITION,
    POSITIONS_SHOWN,
    QUERY_ID,
    SEEN_BY_RETRIEVAL,
    SHORT_HISTORY,
    label_key,
)

_QUERIES_AT_ONCE = 256
_GZIP = tf.io.TFRecordOptions("GZIP", compression_level=1)  # at any level vectors hardly shrink


class Popularity:
    """Successes with each item until a moment, as a multiple of the mean over the items."""

    def __init__(self, everything: Interactions, train: Interactions, num_items: int):
        """everything: all that is known of everyone, for moments in it. train: what counts where there is no time."""
        self._num_items = num_items
        self._untimed = np.bincount(train.items[train.positives], minlength=num_items)
        timed = everything.positives & ~np.isnan(everything.times_s)
        items, times_s = everything.items[timed], everything.times_s[timed]
        order = np.lexsort((times_s, items))
        self._times_s, self._all_times_s = times_s[order], np.sort(times_s)
        self._bounds = np.searchsorted(items[order], np.arange(num_items + 1))

    def before(self, items: np.ndarray, time_s: float, is_target: np.ndarray) -> np.ndarray:
        """float32 [C]. Without a time all of the train split counts, less one for a target that is counted in it.

        is_target: bool [C], whether an item is such a target: liked, and of the train split.
        """
        if np.isnan(time_s):
            counts, total = self._untimed[items] - is_target, self._untimed.sum()
        else:
            parts = (self._times_s[self._bounds[item] : self._bounds[item + 1]] for item in items)
            counts = np.array([np.searchsorted(part, time_s) for part in parts])
            total = np.searchsorted(self._all_times_s, time_s)
        return (np.maximum(counts, 0) * self._num_items / max(total, 1)).astype(np.float32)


def write_ranking_examples(
    model_path: str,
    index_folder: str,
    sequence_folders: Mapping[str, str],
    items_folder: str,
    folders: Mapping[str, str],
    data: str,
    ranking: str,
    candidates: int,
) -> dict[str, int]:
    """Write a gzipped TFRecord file for each split that has a folder; returns the number of examples by split.

    sequence_folders: split -> folder, of train, eval and test. items_folder: item examples. folders: of all splits or
    of some. data, ranking: DataConfig and RankingConfig as JSON. candidates: as the answer's, so that the list is the
    one that is ranked.
    """
    rules_of, config = from_json(DataConfig, data), from_json(RankingConfig, ranking)
    model = load_once(model_path)
    index, item_ids = load_index(index_folder, "exact")
    vectors = index.vectors.numpy()
    splits: dict[str, Interactions] = {split: read_interactions(sequence_folders[split], item_ids) for split in SPLITS}
    popularity = Popularity(latest(list(splits.values())), splits["train"], len(item_ids))
    facts = read_item_metadata(items_folder, item_ids, rules_of.categorical, rules_of.numeric)
    from_s = _candidates_from_s(facts, rules_of, splits)
    features = PairFeatures(facts, index, list(rules_of.event_rules), model.signatures["learned_similarity"])
    written = {}
    sampling = Sampling(config, candidates, _shown_lists(rules_of.exposures, item_ids, splits))
    parts_of = queries_by_split(splits, rules_of, config, from_s)
    for split in folders:
        tf.io.gfile.makedirs(folders[split])
        written[split] = 0
        with tf.io.TFRecordWriter(f"{folders[split]}/data_tfrecord-00000-of-00001.gz", _GZIP) as writer:
            for queries in parts_of[split]:
                query_vectors = encode_users(
                    model.signatures["user_tower"], vectors, queries.people, queries.stops, rules_of.history_length
                )
                for example in _examples(
                    queries, query_vectors, vectors, features, from_s, popularity, rules_of, sampling
                ):
                    writer.write(example)
                    written[split] += 1
    logging.info("ranking examples: %s", written)
    return written


def _shown_lists(path: str, item_ids: list[str], splits: Mapping[str, Interactions]) -> ShownLists | None:
    """The lists that people of this run were shown; None where there are none."""
    shown = read_exposures(path, item_ids) if path else None
    if shown is None or not len(shown):
        return None
    known = sum(user_id in shown.bounds for split in splits.values() for user_id in split.user_ids)
    logging.info("%s: %d lists of %d people; %d sequences are of theirs", path, len(shown), len(shown.bounds), known)
    if known and len(shown.items):
        return shown
    logging.warning("%s: none of %d lists names a person and an item of this run; they are not used", path, len(shown))
    return None


def _candidates_from_s(facts: ItemMetadata, data: DataConfig, splits: Mapping[str, Interactions]) -> np.ndarray:
    """From when on each item is a candidate for an example: float64 [N], seconds since 1970, -inf = always.

    An item that is there from its first event on is so after it, and without one never: else what nobody has taken yet
    would always be taken in the first case and never in the second.
    """
    from_s = available_from_s(facts, data, list(splits.values()))
    if data.undated_items != "from_first_event":
        return from_s
    after_s = np.where(np.isfinite(from_s), np.nextafter(from_s, np.inf), np.inf)
    return np.where(np.isnan(facts.published_at_s), after_s, from_s)


def queries_by_split(
    splits: Mapping[str, Interactions], data: DataConfig, config: RankingConfig, from_s: np.ndarray
) -> dict[str, list[Queries]]:
    """The queries that the ranker is trained on, stopped by and judged by, as `train`, `eval` and `test`.

    Half of those to train on are ones that retrieval was not fitted on, if there are so many.
    Where the eval split has not both people who are held out and others, they are held out of the train split.
    from_s: float64 [N], when each item became a candidate.
    """
    per_query = 1 + config.negatives_from_list + config.negatives_from_catalogue

    def is_held_out(user_id: str) -> bool:
        digest = hashlib.blake2b(f"{config.seed}:held out:{user_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < config.held_out_share * 2**64

    limit, most = config.max_train_examples // per_query, config.max_eval_examples // per_query
    held_out = queries_of(splits["eval"], "eval", data, config, from_s, most, is_held_out)
    unfitted = queries_of(
        splits["eval"], "eval", data, config, from_s, limit // 2, lambda user_id: not is_held_out(user_id)
    )
    source = "eval" if len(held_out.ids) and len(unfitted.ids) else "train"
    if source == "train":
        held_out = queries_of(splits["train"], "train", data, config, from_s, most, is_held_out)
    fitted = queries_of(
        splits["train"],
        "train",
        data,
        config,
        from_s,
        limit - len(unfitted.ids),
        lambda user_id: source == "eval" or not is_held_out(user_id),
    )
    return {
        "train": [queries for queries in (fitted, unfitted) if len(queries.ids)],
        "eval": [held_out],
        "test": [queries_of(splits["test"], "test", data, config, from_s, config.max_test_examples // per_query)],
    }


def queries_of(
    people: Interactions,
    split: str,
    data: DataConfig,
    config: RankingConfig,
    from_s: np.ndarray,
    limit: int,
    keeps: Callable[[str], bool] = lambda user_id: True,
) -> Queries:
    """The interactions of a split that become queries.

    In train the last `targets_per_user` of each person's later half, in eval and test those of the split itself; only
    where something came before, and what an answer could have held: an item that the person had not taken and that was
    there. At most `limit` of them, thinned out by a digest of their name.
    from_s: float64 [N], when each item became a candidate. keeps: tells by their id whose.
    """
    lengths = np.diff(people.splits)
    first = np.maximum(lengths // 2, lengths - config.targets_per_user) if split == "train" else people.num_history
    is_candidate = ~(from_s[people.items] > people.times_s) & people.is_first

    def named() -> Iterator[tuple[bytes, int, int, str]]:
        for user, user_id in enumerate(people.user_ids):
            stops = np.arange(max(int(first[user]), 1), int(lengths[user])) if keeps(user_id) else np.zeros(0, int)
            for stop in stops[is_candidate[people.splits[user] + stops]].tolist():
                name = f"{user_id}\n{stop}"
                digest = hashlib.blake2b(f"{config.seed}:{split}:{name}".encode(), digest_size=8).digest()
                yield digest, user, stop, name

    chosen = sorted(heapq.nsmallest(limit, named()), key=lambda query: query[1:3])
    users, stops = (np.array([query[part] for query in chosen], np.int64) for part in (1, 2))
    at = people.splits[users] + stops
    events = people.event_texts(people.events[at])
    labels = [
        labels_of(event, bool(positive), data.event_rules) for event, positive in zip(events, people.positives[at])
    ]
    return Queries(
        people=people.select(users),
        targets=people.items[at],
        positives=people.positives[at],
        labels=np.array(labels, np.float32).reshape(len(at), len(data.event_rules)),
        times_s=people.times_s[at],
        stops=stops,
        later=[people.items[row + 1 : people.splits[user + 1]] for row, user in zip(at, users)],
        ids=[query[3] for query in chosen],
        fitted=split == "train",
    )


def _examples(
    queries: Queries,
    query_vectors: np.ndarray,
    vectors: np.ndarray,
    features: PairFeatures,
    from_s: np.ndarray,
    popularity: Popularity,
    data: DataConfig,
    sampling: Sampling,
) -> Iterator[bytes]:
    generator = np.random.default_rng(sampling.config.seed)
    of_item: dict[int, bytes] = {}
    shown = {} if sampling.shown is None else {POSITIONS_SHOWN: 1}
    people, is_counted = queries.people, queries.positives & queries.fitted
    for start in range(0, len(queries.ids), _QUERIES_AT_ONCE):
        rows = np.arange(start, min(start + _QUERIES_AT_ONCE, len(queries.ids)))
        scores = query_vectors[rows] @ vectors.T
        scores[from_s[None] > queries.times_s[rows, None]] = -np.inf  # did not exist yet
        chosen = [candidates_of(queries, row, scores[number], sampling, generator) for number, row in enumerate(rows)]
        width = max(len(items) for items, _ in chosen)
        padded = np.array([np.pad(items, (0, width - len(items)), mode="edge") for items, _ in chosen], np.int32)
        popular = np.array(
            [
                popularity.before(items, queries.times_s[row], (items == queries.targets[row]) & is_counted[row])
                for row, items in zip(rows, padded)
            ],
            np.float32,
        )
        history = window(people, rows, queries.stops[rows], data.history_length)
        batch = features.graph(
            tf.constant(query_vectors[rows]),
            tf.constant(history.items),
            tf.constant(people.event_texts(history.events).astype(str)),
            tf.constant(history.age_s),
            tf.constant(padded),
            tf.constant(popular),
            tf.constant(np.nan_to_num(queries.times_s[rows]), tf.int64),
        )
        arrays = {name: value.numpy() for name, value in batch.items()}
        for number, (row, (items, places)) in enumerate(zip(rows, chosen)):
            slices = shown | {
                QUERY_ID: queries.ids[row].encode(),
                HISTORY_SLICE: _history_slice(queries.stops[row]),
                SEEN_BY_RETRIEVAL: int(queries.fitted),
            }
            of_request = _serialized({name: arrays[name][number, 0] for name in PER_REQUEST} | slices)
            for column, (item, place) in enumerate(zip(items, places)):
                if item not in of_item:
                    of_item[item] = _serialized({name: arrays[name][number, column] for name in PER_ITEM})
                labels = (
                    queries.labels[row] if item == queries.targets[row] else np.zeros(len(data.event_rules), np.float32)
                )
                pair = {
                    name: array[number, column] for name, array in arrays.items() if name not in PER_REQUEST + PER_ITEM
                }
                # Protocol buffers merge what is concatenated, so what examples share is serialized once.
                yield (
                    of_request
                    + of_item[item]
                    + _serialized(pair | {POSITION: place} | dict(zip(map(label_key, data.event_rules), labels)))
                )


def _history_slice(length: int) -> bytes:
    return (LONG_HISTORY if length >= LONG_FROM else SHORT_HISTORY).encode()


def _serialized(values: Mapping[str, Any]) -> bytes:
    feature = {}
    for name, value in values.items():
        listed = np.ravel(value).tolist()
        if isinstance(value, bytes) or np.asarray(value).dtype == object:
            feature[name] = tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[value] if isinstance(value, bytes) else listed)
            )
        elif np.asarray(value).dtype.kind == "f":
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=listed))
        else:
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=listed))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
