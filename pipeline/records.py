"""Reads single records of an artifact of examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.settings import SettingsError


def record_of(folder: Path, item_id: str) -> bytes:
    """The serialized tf.Example of an item, from a folder of gzipped TFRecords. SettingsError: it has no such item."""
    import tensorflow as tf

    files = [str(file) for file in sorted(folder.glob("*.gz"))]
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        if tf.train.Example.FromString(record).features.feature["item_id"].bytes_list.value[0] == item_id.encode():
            return record
    raise SettingsError(
        f"--item: the run of the current model has no item {item_id!r}; items that came since are in the next"
    )


def examples_of(folder: Path) -> Iterator[Any]:
    """The features by name of every example of an artifact, split after split."""
    import tensorflow as tf

    files = [str(file) for file in sorted(folder.glob("Split-*/*.gz"))]
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        yield tf.train.Example.FromString(record).features.feature


def text(features: Any, name: str) -> str:
    """The first text of a feature; empty where it is absent."""
    values = features[name].bytes_list.value if name in features else ()
    return values[0].decode("utf-8", "replace") if values else ""


def flag(features: Any, name: str) -> bool:
    """Whether a feature is there and not 0."""
    return name in features and bool(features[name].int64_list.value[0])
