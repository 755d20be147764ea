"""Serialized examples of an artifact, read from TFRecord files."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf


def record_files(pattern: str) -> list[str]:
    """The TFRecord files of a pattern or of a folder, sorted."""
    return sorted(tf.io.gfile.glob(tf.io.gfile.join(pattern, "*") if tf.io.gfile.isdir(pattern) else pattern))


def record_dataset(pattern: str) -> tf.data.Dataset:
    """The serialized examples of a pattern or of a folder; files whose names end in .gz are gzipped."""
    files = tf.data.Dataset.from_tensor_slices(tf.constant(record_files(pattern), tf.string))
    return files.flat_map(
        lambda path: tf.data.TFRecordDataset(
            path, compression_type=tf.where(tf.strings.regex_full_match(path, r".*\.gz"), "GZIP", "")
        )
    )


def records(pattern: str) -> Iterator[bytes]:
    """The serialized examples of a pattern or of a folder."""
    return record_dataset(pattern).as_numpy_iterator()
