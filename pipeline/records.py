"""One item's record in an artifact of examples."""

from __future__ import annotations

from pathlib import Path

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
