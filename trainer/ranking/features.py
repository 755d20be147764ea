"""The features of the ranker, of a user, an item, the pair and the moment: raw values, the same in training and when
serving.

Scales and vocabularies are the ranker's own.
R rows, O objectives, D dimensions of the towers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from components.config import DataConfig
from components.contract import Feature
from trainer.keras import tf

QUERY_ID = "query_id"  # names the request that an example belongs to; no feature
SHORT_HISTORY, LONG_HISTORY = "short", "long"
HISTORY_SLICE = "history"  # of these two; no feature, but a slice of the evaluation
LONG_FROM = 20  # interactions
VECTORS = ("user_vector", "item_vector")
POSITION = "position"
POSITIONS_SHOWN = "positions_shown"  # no feature: 1 in examples whose positions are those where people saw the items
SEEN_BY_RETRIEVAL = "fitted"  # the name in examples and signatures
PAIR_NUMBERS = (
    "max_similarity",
    "mean_similarity",
    "latest_similarity",
    "learned_similarity",
    "domain_share",
    "creator_share",
)
COUNTED = ("age_s", "recency_s", "popularity")  # in logarithmic buckets
UNKNOWN_S = -1.0  # an unknown time
POSITIONS = (1, 2, 3, 5, 10, 20, 50, 100, 200)  # in retrieval's list, from which a bucket starts
_DAY_S = 86_400


def ranking_features(data: DataConfig, dim: int) -> tuple[Feature, ...]:
    """The inputs of the signature `rank`, and the features of a ranking example beside its labels."""
    return (
        Feature(
            "history_counts",
            "float32",
            (len(data.event_rules),),
            "recent interactions by kind of event, in the rules' order",
        ),
        Feature("recency_s", "float32", (), "seconds since the latest interaction, -1 unknown"),
        Feature("time_s", "int64", (), "when, seconds since 1970, 0 unknown"),
        Feature("domain", "string", (), "UTF-8, empty where absent"),
        Feature("creator", "string", (), "UTF-8, empty where absent"),
        Feature("categories", "string", (len(data.categorical),), "the declared categories, empty where absent"),
        Feature(
            "numeric", "float32", (1 + len(data.numeric),), "duration_s, then the declared numbers; NaN where absent"
        ),
        Feature(
            "popularity", "float32", (), "successes with the item until now, as a multiple of the mean over the items"
        ),
        Feature("age_s", "float32", (), "seconds since the item appeared, -1 unknown"),
        Feature("user_vector", "float32", (dim,), "unit norm"),
        Feature("item_vector", "float32", (dim,), "unit norm"),
        Feature(
            "max_similarity",
            "float32",
            (),
            "largest cosine of the item to a recent one of the person's, 0 without history",
        ),
        Feature("mean_similarity", "float32", (), "mean cosine to the recent ones"),
        Feature("latest_similarity", "float32", (), "mean cosine to the very latest ones"),
        Feature(
            "learned_similarity",
            "float32",
            (),
            "by cross-attention over the recent ones; without any, the likeness of the vectors",
        ),
        Feature("domain_share", "float32", (), "share of the recent ones in the item's domain"),
        Feature("creator_share", "float32", (), "share of the recent ones by the item's creator"),
        Feature(POSITION, "int64", (), "place from 1 on in the list that was shown, else in retrieval's; 0 unknown"),
        Feature(
            SEEN_BY_RETRIEVAL,
            "int64",
            (),
            "1 where retrieval was fitted on the target, so that the tower vectors know it; 0 when serving",
        ),
    )


def label_key(objective: str) -> str:
    """The name of an objective's label in an example."""
    return f"label_{objective}"


def parsing_spec(data: DataConfig, dim: int, labels: bool) -> dict[str, tf.io.FixedLenFeature]:
    """How a ranking example is parsed, with or without its labels."""
    spec = {
        feature.name: tf.io.FixedLenFeature(feature.shape, tf.as_dtype(feature.dtype))
        for feature in ranking_features(data, dim)
    }
    if labels:
        spec |= {label_key(name): tf.io.FixedLenFeature([], tf.float32) for name in data.event_rules}
    return spec


class RankingExamples(NamedTuple):
    """Ranking examples as arrays."""

    features: dict[str, np.ndarray]  # by name, [R, ...]
    labels: np.ndarray  # float32 [R, O], 0 or 1
    positions_shown: bool = False  # positions are those where people saw the items (0 unknown), not retrieval's


def read_examples(files: Sequence[str], data: DataConfig) -> RankingExamples:
    """Reads all ranking examples of some gzipped files, at least one. Raises ValueError where they hold none."""
    first = next(iter(tf.data.TFRecordDataset(list(files), "GZIP").take(1)), None)
    if first is None:
        raise ValueError(
            f"there are no ranking examples in {', '.join(files)}; does anybody take an item after another, for the"
            " first time, and is anybody held out for the split eval (ranking.held_out_share)?"
        )
    example = tf.train.Example.FromString(first.numpy()).features.feature
    dim = len(example["item_vector"].float_list.value)
    spec = parsing_spec(data, dim, labels=True)
    batches = [tf.io.parse_example(batch, spec) for batch in tf.data.TFRecordDataset(list(files), "GZIP").batch(4096)]
    arrays = {name: np.concatenate([batch[name].numpy() for batch in batches]) for name in spec}
    labels = np.stack([arrays.pop(label_key(name)) for name in data.event_rules], 1)
    return RankingExamples(arrays, labels, POSITIONS_SHOWN in example)


class Encoder(tf.Module):
    """Encodes raw features as ids of categories and buckets, scaled numbers, and the product of the towers' vectors.

    Vocabularies and scales are those of the training rows.
    """

    def __init__(
        self, features: dict[str, np.ndarray], min_count: int, event_names: Sequence[str], numeric: Sequence[str]
    ):
        """features: training rows as `ranking_features` names them.
        min_count: rows that a name needs for an id of its own.
        event_names: the kinds of the event rules.
        numeric: the declared numeric columns.
        """
        super().__init__()
        names = {"domain": features["domain"], "creator": features["creator"]}
        names |= {
            f"category_{column}": features["categories"][:, column] for column in range(features["categories"].shape[1])
        }
        self._tables = {name: _table(values, min_count) for name, values in names.items()}
        self.sizes = [
            *(int(table.size()) + 1 for table in self._tables.values()),
            *[_BUCKETS] * len(COUNTED),
            25,
            8,
            _BUCKETS,
            2,
        ]
        events = [f"{name}_{what}" for what in ("count", "share") for name in event_names]
        dense_names = [*PAIR_NUMBERS, "similarity", "log_popularity", *events, "duration", *numeric]
        self.field_names = [
            *self._tables,
            *COUNTED,
            "hour",
            "weekday",
            "history_length",
            SEEN_BY_RETRIEVAL,
            *dense_names,
            "towers",
        ]
        self._offsets = tf.constant(np.concatenate([[0], np.cumsum(self.sizes)[:-1]]), tf.int32)
        dense = self._dense(
            {name: tf.constant(values) for name, values in features.items() if values.dtype != object}
        ).numpy()
        is_there = ~np.isnan(dense)
        counts = np.maximum(is_there.sum(0), 1)
        mean = np.where(is_there, dense, 0).sum(0) / counts
        spread = np.sqrt(np.where(is_there, (dense - mean) ** 2, 0).sum(0) / counts)
        self._mean = tf.Variable(mean, trainable=False, dtype=tf.float32)
        self._scale = tf.Variable(np.where(spread > 1e-6, spread, 1.0), trainable=False, dtype=tf.float32)
        self.num_dense = dense.shape[1]

    def __call__(self, features):
        """The inputs of a ranker: `ids` int32 [R, categories] (rows of one table), `dense` float32 [R, numbers],
        `product` float32 [R, D], and `position` int32 [R], a bucket of `POSITIONS`. features: by name, batched.
        """
        names = [features["domain"], features["creator"], *tf.unstack(features["categories"], axis=1)]
        ids = [table.lookup(value) for table, value in zip(self._tables.values(), names)]
        length = tf.reduce_sum(features["history_counts"], 1)
        *counted, length = tf.unstack(_doubling(tf.stack([*(features[name] for name in COUNTED), length])))
        ids += counted
        is_known = features["time_s"] > 0
        day = features["time_s"] // _DAY_S
        ids.append(tf.where(is_known, 1 + tf.cast(features["time_s"] % _DAY_S // 3600, tf.int32), 0))
        ids.append(tf.where(is_known, 1 + tf.cast((day + 3) % 7, tf.int32), 0))  # 1970 began on a Thursday; 1 = Monday
        ids.append(length)
        ids.append(tf.cast(features[SEEN_BY_RETRIEVAL], tf.int32))
        dense = (self._dense(features) - self._mean) / self._scale
        return {
            "ids": tf.stack(ids, 1) + self._offsets,
            "dense": tf.clip_by_value(tf.where(tf.math.is_nan(dense), 0.0, dense), -5.0, 5.0),
            "product": features["user_vector"] * features["item_vector"],
            "position": tf.cast(
                tf.searchsorted(tf.constant(POSITIONS, tf.int64), features[POSITION], side="right"), tf.int32
            ),
        }

    def _dense(self, features):
        """Numbers before scaling, NaN where absent: float32 [R, numbers]."""
        similarity = tf.reduce_sum(features["user_vector"] * features["item_vector"], 1)
        pair = {name: features[name] for name in PAIR_NUMBERS}
        pair["learned_similarity"] -= similarity  # often the same number, which would share its weight
        counts = tf.math.log1p(features["history_counts"])
        share = features["history_counts"] / tf.maximum(
            tf.reduce_sum(features["history_counts"], 1, keepdims=True), 1.0
        )
        numbers = features["numeric"]
        numbers = tf.sign(numbers) * tf.math.log1p(tf.abs(numbers))  # lengths and counts span orders of magnitude
        popularity = tf.math.log(0.1 + features["popularity"])
        return tf.concat([tf.stack([*pair.values(), similarity, popularity], 1), counts, share, numbers], 1)


_BUCKETS = 40


def _doubling(value):
    """Logarithmic buckets, int32: 0 for an unknown (negative) x, else 1, and one more for each doubling of 1 + 4 x."""
    bucket = 1 + tf.cast(tf.math.log1p(4 * tf.maximum(value, 0.0)) / tf.math.log(2.0), tf.int32)
    return tf.where(value < 0, 0, tf.minimum(bucket, _BUCKETS - 1))


def _table(values: np.ndarray, min_count: int) -> tf.lookup.StaticHashTable:
    """A lookup of names: 1 + rank, 0 for rare and unknown ones. An absent name ("") is one like others."""
    names, counts = np.unique(values.astype(object), return_counts=True)
    known = [name for name, count in zip(names, counts) if count >= min_count] or [b"\0"]
    numbers = tf.range(1, 1 + len(known), dtype=tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant(known, tf.string), numbers), 0)
