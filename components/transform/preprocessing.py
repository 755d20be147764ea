"""The Transform functions: raw item and event features → what the models see, as one TensorFlow graph without Python
code or custom ops.

Absent values arrive as sparse tensors without an entry, in training and in serving alike; each gets the contract's
padding and, where it matters, an indicator beside it. Ids count 0 = absent, 1 = unknown, 2 + rank = known (rank by
frequency in the catalogue).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from components.config import DataConfig
from components.contract import AUDIO_FEATURES, TAG_SLOTS, TEXT_TOKENS, VIDEO_FEATURES, Feature, item_features
from components.settings import from_json

FIRST_KNOWN_ID = 2
MIN_VARIATION = 1e-6  # of a column, as a share of its largest value


@dataclass(frozen=True)
class VocabularyLimits:
    """What gets an id of its own; the rest shares "unknown"."""

    min_count: int | None = None
    max_size: int = 10_000


LIMITS = {
    "words": VocabularyLimits(min_count=2, max_size=50_000),  # a word of one item alone tells nothing about others
    "creator": VocabularyLimits(min_count=2, max_size=100_000),
}

_APOSTROPHES = "['\u2019]"
_NO_WORD = r"[^\p{L}\p{M}\p{N}]+"
_CJK = r"([\p{Han}\p{Hiragana}\p{Katakana}])"  # written without spaces: a character is a word

Tensors = dict[str, tf.Tensor]


def items(inputs: Mapping[str, Any], custom_config: Mapping[str, str]) -> Tensors:
    """`preprocessing_fn` of ItemTransform: item examples → exactly `contract.item_features`.

    inputs: by the schema `schemas.catalogue_schema`; optional features as SparseTensor. custom_config: `data`, a
    DataConfig as JSON.
    """
    data = from_json(DataConfig, custom_config["data"])
    tokens = words(_texts(inputs))
    tags = _dense(inputs["tags"], TAG_SLOTS, "")
    outputs: Tensors = {
        "item_id": tf.reshape(inputs["item_id"], [-1]),
        "text_tokens": _ids(tokens, "words"),
        "has_text": _flag(tokens[:, 0] != ""),
        "tag_ids": _ids(tags, "tags"),
        "has_tags": _flag(tags[:, 0] != ""),
        **{f"{name}_id": _ids(_single(inputs[name], ""), name) for name in ("domain", "creator", *data.categorical)},
        **_numeric(inputs, data),
        **_media(inputs),
        **_embeddings(inputs, data),
        **_pieces(inputs, data),
    }
    assert outputs.keys() == {feature.name for feature in item_features(data)}, sorted(outputs)
    return outputs


def words(texts: tf.Tensor) -> tf.Tensor:
    """Lower-case words of UTF-8 texts [B] → string [B, TEXT_TOKENS], "" where padded.

    A word is a run of letters, marks and digits; apostrophes inside it vanish ("don't" → "dont"); each Chinese
    character and each Japanese kana is a word of its own.
    """
    texts = tf.strings.lower(texts, encoding="utf-8")
    texts = tf.strings.regex_replace(texts, _APOSTROPHES, "")
    texts = tf.strings.regex_replace(texts, _NO_WORD, " ")
    texts = tf.strings.regex_replace(texts, _CJK, r" \1 ")
    return tf.strings.split(texts).to_tensor("", shape=[None, TEXT_TOKENS])


def _texts(inputs: Mapping[str, Any]) -> tf.Tensor:
    return tf.strings.join([_single(inputs["title"], ""), _single(inputs["description"], "")], separator=" ")


def _ids(values: tf.Tensor, vocabulary: str) -> tf.Tensor:
    limits = LIMITS.get(vocabulary, VocabularyLimits())
    # The vocabulary is made of the values that are there: padding must not be its most frequent word.
    present = tf.boolean_mask(values, values != "")
    deferred = tft.vocabulary(
        present, top_k=limits.max_size, frequency_threshold=limits.min_count, vocab_filename=vocabulary
    )
    rank = tft.apply_vocabulary(values, deferred, default_value=-1)  # -1 = unknown
    return tf.where(values == "", tf.zeros_like(rank), rank + FIRST_KNOWN_ID)


def _numeric(inputs: Mapping[str, Any], data: DataConfig) -> Tensors:
    duration_s = _finite(inputs["duration_s"])
    logged = duration_s.with_values(tf.math.log1p(tf.maximum(duration_s.values, 0.0)))
    columns = [logged, *(_finite(inputs[name]) for name in data.numeric)]
    return {
        "numeric": tf.stack([_z_score(column) for column in columns], axis=1),
        "numeric_present": tf.stack([_single(_ones(column, tf.float32), 0.0) for column in columns], axis=1),
    }


def _finite(values: tf.SparseTensor) -> tf.SparseTensor:
    return tf.sparse.retain(values, tf.math.is_finite(values.values))


def _ones(values: tf.SparseTensor, dtype: tf.DType) -> tf.SparseTensor:
    return values.with_values(tf.ones_like(values.values, dtype))


def _z_score(column: tf.SparseTensor) -> tf.Tensor:
    """Over the present values; 0 where absent and in a column that does not vary.

    In double precision: Beam cuts batches by the time they take, and in single precision their sums would tell.
    """
    column = column.with_values(tf.cast(column.values, tf.float64))
    mean, variance = tft.mean(column), tft.var(column)
    stddev = tf.sqrt(variance)
    largest = tft.max(column.with_values(tf.abs(column.values)))
    varies = tf.logical_and(tf.math.is_finite(stddev), stddev > MIN_VARIATION * largest)
    scores = (column.values - mean) / tf.where(varies, stddev, 1.0)
    scores = tf.where(varies, scores, tf.zeros_like(scores))
    return _single(column.with_values(tf.cast(scores, tf.float32)), 0.0)


def _media(inputs: Mapping[str, Any]) -> Tensors:
    outputs: Tensors = {}
    for flag, features in (("has_audio", AUDIO_FEATURES), ("has_video", VIDEO_FEATURES)):
        outputs |= {feature.name: _padded(inputs[feature.name], feature) for feature in features}
        outputs[flag] = _single(inputs[flag], 0)
    return outputs


def _padded(values: tf.SparseTensor, feature: Feature) -> tf.Tensor:
    if feature.dtype == "uint8":
        return _single(values, "")
    if not feature.shape:
        return _single(values, 0)
    (width,) = feature.shape
    return _dense(values, width, 0)


def _embeddings(inputs: Mapping[str, Any], data: DataConfig) -> Tensors:
    outputs: Tensors = {}
    for name, dim in data.embeddings.items():
        values = inputs[f"embedding_{name}"]
        outputs[f"embedding_{name}"] = _dense(values, dim, 0.0)
        outputs[f"has_embedding_{name}"] = _single(_ones(values, tf.int64), 0)
    return outputs


def _pieces(inputs: Mapping[str, Any], data: DataConfig) -> Tensors:
    outputs: Tensors = {}
    for name, length in data.pieces.items():
        values = inputs[f"pieces_{name}"]
        outputs[f"pieces_{name}"] = _dense(values, length, -1)
        outputs[f"has_pieces_{name}"] = _single(_ones(values, tf.int64), 0)
    return outputs


def _flag(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.int64)


def _single(values: tf.SparseTensor, default: Any) -> tf.Tensor:
    """The first value of each row, [B]; the default where there is none."""
    return _dense(values, 1, default)[:, 0]


def _dense(values: tf.SparseTensor, width: int, default: Any) -> tf.Tensor:
    """The first `width` values of each row, padded with the default, [B, width]."""
    kept = tf.sparse.retain(values, values.indices[:, 1] < width)
    shape = tf.stack([values.dense_shape[0], tf.constant(width, tf.int64)])
    dense = tf.sparse.to_dense(tf.SparseTensor(kept.indices, kept.values, shape), tf.constant(default, values.dtype))
    return tf.ensure_shape(dense, [None, width])
