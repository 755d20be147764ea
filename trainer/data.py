"""The features of all transformed items as arrays that are mapped from files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.config import DataConfig
from components.contract import Feature, item_features, modalities
from components.datasets.interactions import Interactions
from components.datasets.items import available_from_s, read_item_metadata
from components.datasets.records import record_dataset
from trainer.keras import tf

_PARSE_BATCH = 256
_NUMPY = {"int64": np.int64, "float32": np.float32, "uint8": np.uint8, "string": np.bytes_}


class ItemTable:
    """Features of all items, memory-mapped: an interaction carries an index, never a copy of its item's media."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        item_ids: list[bytes],
        vocabulary_sizes: dict[str, int],
        present: tuple[str, ...],
    ):
        self.arrays = arrays  # name -> [N, ...]
        self.item_ids = item_ids
        self.vocabulary_sizes = vocabulary_sizes  # vocabulary name -> ids in use, absent and unknown included
        self.modalities = present  # modalities that at least one item has
        self.index = {item_id: row for row, item_id in enumerate(item_ids)}
        self.available_from_s = np.full(
            len(item_ids), -np.inf
        )  # float64 [N], when each becomes a candidate; see `date`

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def build(
        cls, pattern: str, data: DataConfig, folder: Path, vocabulary_sizes: Mapping[str, int] | None = None
    ) -> ItemTable:
        """Write the features of the transformed items as .npy files, and open them.

        pattern: TFRecord files (gzipped where the name ends in .gz). vocabulary_sizes: known sizes; others are the
        highest id + 1.
        Raises ValueError where there are no items or an id comes twice.
        """
        features = [feature for feature in item_features(data) if feature.name != "item_id"]
        records = record_dataset(pattern)
        num_items = sum(1 for _ in records)
        if not num_items:
            raise ValueError(f"no items in {pattern}")
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {
            feature.name: np.lib.format.open_memmap(
                folder / f"{feature.name}.npy", "w+", _NUMPY[feature.dtype], (num_items, *feature.shape)
            )
            for feature in features
        }
        spec = {feature.name: _parsed(feature) for feature in item_features(data)}
        item_ids: list[bytes] = []
        for parsed in (
            records.batch(_PARSE_BATCH).map(lambda batch: tf.io.parse_example(batch, spec)).as_numpy_iterator()
        ):
            for feature in features:
                _write(feature, parsed[feature.name], arrays[feature.name][len(item_ids) :])
            item_ids.extend(parsed["item_id"].tolist())
        if len(set(item_ids)) != num_items:
            raise ValueError(f"{num_items - len(set(item_ids))} item ids come more than once in {pattern}")
        sizes = {
            feature.vocabulary: max(
                int(arrays[feature.name].max()) + 1, 2, (vocabulary_sizes or {}).get(feature.vocabulary, 0)
            )
            for feature in features
            if feature.vocabulary
        }
        present = tuple(name for name in modalities(data) if arrays[f"has_{name}"].any())
        for array in arrays.values():
            array.flush()
        content = {
            "items": [item_id.decode() for item_id in item_ids],
            "vocabulary_sizes": sizes,
            "modalities": present,
        }
        (folder / "spec.json").write_text(json.dumps(content, ensure_ascii=False))
        return cls.open(folder)

    @classmethod
    def of_ids(cls, pattern: str) -> ItemTable:
        """The transformed items without any feature, for what is learned from behaviour alone.

        Raises ValueError where there are none.
        """
        spec = {"item_id": tf.io.FixedLenFeature([], tf.string)}
        batches = record_dataset(pattern).batch(_PARSE_BATCH).map(lambda batch: tf.io.parse_example(batch, spec))
        item_ids = [item_id for batch in batches.as_numpy_iterator() for item_id in batch["item_id"].tolist()]
        if not item_ids:
            raise ValueError(f"no items in {pattern}")
        return cls({}, item_ids, {}, ())

    @classmethod
    def open(cls, folder: Path) -> ItemTable:
        """The table that `build` wrote."""
        spec = json.loads((folder / "spec.json").read_text())
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        return cls(
            arrays, [item.encode() for item in spec["items"]], spec["vocabulary_sizes"], tuple(spec["modalities"])
        )

    def date(self, item_examples: str, data: DataConfig, splits: Sequence[Interactions]) -> None:
        """Reads from when on each item is a candidate, as evaluation does; without this, all are there at all times.

        item_examples: pattern or folder of item examples that are not transformed. splits: where the first events are
        looked for (`data.undated_items`).
        """
        metadata = read_item_metadata(item_examples, [item_id.decode() for item_id in self.item_ids])
        self.available_from_s = available_from_s(metadata, data, splits)

    def take(self, indices: np.ndarray, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The features of the items at `indices` int [C]: name -> [C, ...]. A repeated index is read once."""
        unique, inverse = np.unique(np.asarray(indices), return_inverse=True)
        is_plain = len(unique) == len(inverse) and (inverse[1:] > inverse[:-1]).all()
        rows = {name: np.asarray(self.arrays[name][unique]) for name in (names or self.arrays)}
        return rows if is_plain else {name: array[inverse] for name, array in rows.items()}

    def view(self, indices: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """As `take`, but media, which would fill the memory, are read only where they are sliced: as `MediaView`."""
        is_medium = {name: self.arrays[name].dtype == np.uint8 for name in names}
        return {
            name: MediaView(self, indices, name) if is_medium[name] else self.take(indices, [name])[name]
            for name in names
        }


@dataclass(frozen=True)
class MediaView:
    """A raw medium of some items of a table, which is read where it is sliced: uint8 [C, ...]."""

    table: ItemTable
    indices: np.ndarray  # int [C]
    name: str  # of the feature

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.table.take(self.indices[part], [self.name])[self.name]


def _parsed(feature: Feature) -> tf.io.FixedLenFeature:
    if feature.dtype == "uint8":
        return tf.io.FixedLenFeature([], tf.string, "")
    return tf.io.FixedLenFeature(feature.shape, tf.as_dtype(feature.dtype))


def _write(feature: Feature, values: np.ndarray, array: np.ndarray) -> None:
    """Writes a feature of some items to the first rows of a new array; absent media are left out: a file has zeros
    where nothing was written, and they take no room on the disk.
    """
    if feature.dtype != "uint8":
        array[: len(values)] = values
        return
    there = np.array([len(value) > 0 for value in values])
    if there.any():
        media = np.frombuffer(b"".join(values[there]), np.uint8)
        array[: len(values)][there] = media.reshape(int(there.sum()), *feature.shape)


def vocabulary_sizes(transform_graph: str, data: DataConfig) -> dict[str, int]:
    """Ids of each vocabulary of a transform graph: 0 = absent, 1 = unknown, then its words."""
    import tensorflow_transform as tft  # noqa: PLC0415  (seconds to import, and needed with a transform graph only)

    output = tft.TFTransformOutput(transform_graph)
    names = {feature.vocabulary for feature in item_features(data) if feature.vocabulary}
    return {name: output.vocabulary_size_by_name(name) + 2 for name in names}
