"""Typed values to tf.Example and back. A value that is absent is an absent feature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from components.contract import Column

SOURCE_FILE, SOURCE_LINE = "source_file", "source_line"  # features of an Example that knows its place


def feature_name(column: Column) -> str:
    """The feature that carries a column: its name, with `embedding:<name>` written `embedding_<name>`."""
    return column.name.replace(":", "_")


def bytes_feature(values: Iterable[str | bytes]) -> tf.train.Feature:
    """Texts as UTF-8."""
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def ints_feature(values: Iterable[int]) -> tf.train.Feature:
    """int64 values."""
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats_feature(values: Iterable[float]) -> tf.train.Feature:
    """float32 values."""
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def row_example(values: dict[str, Any], columns: Iterable[Column]) -> tf.train.Example:
    """The typed values of a row (docs/artifacts.md, "Catalogue examples") as an Example."""
    example = tf.train.Example()
    features = example.features.feature
    for column in columns:
        if column.name not in values:
            continue
        feature, value = features[feature_name(column)], values[column.name]
        if column.kind == "time":
            feature.int64_list.value.append(value)
        elif column.kind in ("number", "embedding"):
            feature.float_list.value.extend([value] if column.kind == "number" else value)
        else:
            feature.bytes_list.value.extend(text.encode() for text in (value if column.kind == "list" else [value]))
    return example


def row_values(example: tf.train.Example, columns: Iterable[Column]) -> dict[str, Any]:
    """The inverse of `row_example`; numbers come back as float32 has them."""
    values: dict[str, Any] = {}
    for column in columns:
        feature = example.features.feature.get(feature_name(column))
        if feature is None or feature.WhichOneof("kind") is None:
            continue
        content: list[Any] = list(getattr(feature, feature.WhichOneof("kind")).value)
        if isinstance(content[0] if content else None, bytes):
            content = [value.decode() for value in content]
        values[column.name] = content if column.kind in ("list", "embedding") else content[0]
    return values
