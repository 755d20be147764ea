"""Examples on disk -> arrays: the table of item features and the users' sequences.

N items, U users, n interactions, B users of a batch, L longest history of a batch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.config import DataConfig
from components.contract import Feature, item_features, modalities
from trainer.keras import tf

PADDING = 0  # code of an event that is not there
UNKNOWN_EVENT = 1  # code of an event that the rules do not name; the named ones follow in their order
_PARSE_BATCH = 256
_COUNTED_AT_ONCE = 1_000_000
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

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def build(
        cls, pattern: str, data: DataConfig, folder: Path, vocabulary_sizes: Mapping[str, int] | None = None
    ) -> ItemTable:
        """Write the features of the transformed items as .npy files, and open them.

        pattern: TFRecord files (gzipped where the name ends in .gz). vocabulary_sizes: known sizes; others are the highest id + 1.
        Raises ValueError where there are no items or an id comes twice.
        """
        features = [feature for feature in item_features(data) if feature.name != "item_id"]
        files = record_files(pattern)
        num_items = sum(1 for _ in _records(files))
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
            _records(files).batch(_PARSE_BATCH).map(lambda batch: tf.io.parse_example(batch, spec)).as_numpy_iterator()
        ):
            start, stop = len(item_ids), len(item_ids) + len(parsed["item_id"])
            for feature in features:
                arrays[feature.name][start:stop] = _as_array(feature, parsed[feature.name])
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
        """The transformed items without any feature, for what is learned from behaviour alone. Raises ValueError where there are none."""
        spec = {"item_id": tf.io.FixedLenFeature([], tf.string)}
        batches = (
            _records(record_files(pattern)).batch(_PARSE_BATCH).map(lambda batch: tf.io.parse_example(batch, spec))
        )
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

    def take(self, indices: np.ndarray, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The features of the items at `indices` int [C]: name -> [C, ...]. An index may repeat: each row is read once."""
        unique, inverse = np.unique(np.asarray(indices), return_inverse=True)
        is_plain = len(unique) == len(inverse) and (inverse[1:] > inverse[:-1]).all()
        rows = {name: np.asarray(self.arrays[name][unique]) for name in (names or self.arrays)}
        return rows if is_plain else {name: array[inverse] for name, array in rows.items()}


@dataclass(frozen=True)
class Sequences:
    """Interactions of users in one split, oldest first, flat: user u owns `splits[u]:splits[u + 1]`."""

    user_ids: list[bytes]
    splits: np.ndarray  # int64 [U + 1]
    items: np.ndarray  # int32 [n], rows of the item table
    events: np.ndarray  # int32 [n], event codes
    times_s: np.ndarray  # int64 [n], 0 where unknown
    weights: np.ndarray  # float32 [n]
    positives: np.ndarray  # bool [n]
    values: np.ndarray  # float32 [n], NaN where absent
    num_history: np.ndarray  # int64 [U], the first so many are history, the rest belong to the split
    ordered: np.ndarray  # bool [U], False = a set without time
    known_rows: np.ndarray | None = (
        None  # int32 [U], rows of `trainer.retrieval.user_features`; None = nothing is known beside histories
    )

    def __len__(self) -> int:
        return len(self.user_ids)

    @classmethod
    def read(
        cls, patterns: Sequence[str], item_index: Mapping[bytes, int], events: Sequence[str], folder: Path | None = None
    ) -> Sequences:
        """Read sequence examples, one user in memory at a time; with a folder, the interactions are then mapped from files in it.

        Interactions with items that the table lacks are left out; events: the names in the rules, in order.
        """
        codes = {name.encode(): code for code, name in enumerate(events, UNKNOWN_EVENT + 1)}
        files = [path for pattern in patterns for path in record_files(pattern)]
        users: list[bytes] = []
        lengths, num_history, ordered = [0], [], []
        with _Columns(folder) as columns:
            for record in _records(files).as_numpy_iterator():
                example = tf.train.Example.FromString(record).features.feature
                rows = np.array([item_index.get(item, -1) for item in example["item_ids"].bytes_list.value], np.int32)
                known = rows >= 0
                times = np.array(example["timestamps_s"].int64_list.value, np.int64)
                kinds = np.array(
                    [codes.get(event, UNKNOWN_EVENT) for event in example["events"].bytes_list.value], np.int32
                )
                columns.append(
                    items=rows[known],
                    events=kinds[known],
                    times_s=(times if len(times) else np.zeros(len(rows), np.int64))[known],
                    weights=np.array(example["weights"].float_list.value, np.float32)[known],
                    positives=np.array(example["positives"].int64_list.value, bool)[known],
                    values=np.array(example["values"].float_list.value, np.float32)[known],
                )
                users.append(example["user_id"].bytes_list.value[0])
                lengths.append(int(known.sum()))
                num_history.append(int(known[: example["num_history"].int64_list.value[0]].sum()))
                ordered.append(bool(example["ordered"].int64_list.value[0]))
            flat = columns.arrays()
        return cls(
            users,
            np.cumsum(lengths),
            **flat,
            num_history=np.array(num_history, np.int64),
            ordered=np.array(ordered, bool),
        )

    def blocks(self, most_interactions: int) -> Iterator[np.ndarray]:
        """The rows of all users, in ascending blocks with at most so many interactions together, or one user with more."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.splits, self.splits[start] + most_interactions, "right")) - 1
            stop = min(max(stop, start + 1), len(self))
            yield np.arange(start, stop)
            start = stop

    def padded(self, rows: np.ndarray, history_only: bool = False, longest: int | None = None) -> dict[str, np.ndarray]:
        """The interactions of some users as rectangles, oldest first, padded at the end.

        rows: int [B]. history_only: the history of the split alone. longest: keep the most recent so many.
        Returns [B, L]: `items` (-1 = padding), `events` (0 = padding), `age_s` (before the last one, or before the split begins),
        `weights`, `positives`, `values` (NaN = none); and [B]: `ordered`, `users` (rows of `trainer.retrieval.user_features`).
        """
        starts, stops = self.splits[rows], self.splits[rows + 1]
        ends = starts + self.num_history[rows] if history_only else stops
        lengths = ends - starts if longest is None else np.minimum(ends - starts, longest)
        offsets = np.arange(max(int(lengths.max(initial=0)), 1))
        inside = offsets < lengths[:, None]
        at = np.where(inside, (ends - lengths)[:, None] + offsets, 0)
        if not len(self.items):
            at, inside = at, np.zeros_like(inside)

        def pick(array, empty):
            return np.where(inside, array[at], empty).astype(array.dtype) if len(array) else np.full(at.shape, empty)

        times = pick(self.times_s, 0)
        requests = np.zeros(len(rows), np.int64)
        if len(self.times_s):
            last = np.minimum(np.where(ends < stops, ends, ends - 1), len(self.times_s) - 1)
            requests = self.times_s[np.maximum(last, 0)]
        return {
            "items": pick(self.items, -1),
            "events": pick(self.events, PADDING),
            "age_s": np.where(inside & (times > 0), np.maximum(requests[:, None] - times, 0), 0).astype(np.float32),
            "weights": pick(self.weights, 0),
            "positives": pick(self.positives, False),
            "values": pick(self.values, np.nan),
            "ordered": self.ordered[rows],
            "users": np.zeros(len(rows), np.int32) if self.known_rows is None else self.known_rows[rows],
        }

    def counts(self, num_items: int) -> np.ndarray:
        """Positive interactions of each item, int64 [N]."""
        total = np.zeros(num_items, np.int64)
        for start in range(0, len(self.items), _COUNTED_AT_ONCE):
            part = slice(start, start + _COUNTED_AT_ONCE)
            total += np.bincount(self.items[part][self.positives[part]], minlength=num_items)
        return total


class _Columns:
    """Columns of interactions that grow: in memory, or as files in a folder, which are then mapped."""

    dtypes = {
        "items": np.int32,
        "events": np.int32,
        "times_s": np.int64,
        "weights": np.float32,
        "positives": np.bool_,
        "values": np.float32,
    }

    def __init__(self, folder: Path | None):
        self._folder, self._stack = folder, ExitStack()

    def __enter__(self) -> _Columns:
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._sinks: dict[str, Any] = {
            name: self._stack.enter_context((self._folder / name).open("wb") if self._folder else io.BytesIO())
            for name in self.dtypes
        }
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def append(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self._sinks[name].write(array.tobytes())

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns as read-only arrays."""
        if not self._folder:
            return {name: np.frombuffer(self._sinks[name].getvalue(), dtype) for name, dtype in self.dtypes.items()}
        for sink in self._sinks.values():
            sink.flush()
        is_empty = not (self._folder / "items").stat().st_size
        return {
            name: np.zeros(0, dtype) if is_empty else np.memmap(self._folder / name, dtype, "r")
            for name, dtype in self.dtypes.items()
        }


def records_of(pattern: str) -> Iterator[bytes]:
    """The serialized examples of a pattern or of a folder."""
    return _records(record_files(pattern)).as_numpy_iterator()


def record_files(pattern: str) -> list[str]:
    """The TFRecord files of a pattern or of a folder, sorted."""
    return sorted(tf.io.gfile.glob(tf.io.gfile.join(pattern, "*") if tf.io.gfile.isdir(pattern) else pattern))


def _records(files: list[str]) -> tf.data.Dataset:
    parts = tf.data.Dataset.from_tensor_slices(tf.constant(files, tf.string))
    return parts.flat_map(
        lambda path: tf.data.TFRecordDataset(
            path, compression_type=tf.where(tf.strings.regex_full_match(path, r".*\.gz"), "GZIP", "")
        )
    )


def _parsed(feature: Feature) -> tf.io.FixedLenFeature:
    if feature.dtype == "uint8":
        return tf.io.FixedLenFeature([], tf.string, "")
    return tf.io.FixedLenFeature(feature.shape, tf.as_dtype(feature.dtype))


def _as_array(feature: Feature, values: np.ndarray) -> np.ndarray:
    if feature.dtype != "uint8":
        return values
    size = int(np.prod(feature.shape))
    empty = bytes(size)
    return np.frombuffer(b"".join(value or empty for value in values), np.uint8).reshape(len(values), *feature.shape)
