"""Examples on disk -> arrays: the table of item features and the users' sequences.

N items, U users, n interactions, B users of a batch, L longest history of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_NUMPY = {"int64": np.int64, "float32": np.float32, "uint8": np.uint8, "string": np.bytes_}


class ItemTable:
    """Features of all items, memory-mapped: an interaction carries an index, never a copy of its item's media."""

    def __init__(self, arrays: dict[str, np.ndarray], item_ids: list[bytes], vocabulary_sizes: dict[str, int], present: tuple[str, ...]):
        self.arrays = arrays  # name -> [N, ...]
        self.item_ids = item_ids
        self.vocabulary_sizes = vocabulary_sizes  # vocabulary name -> ids in use, absent and unknown included
        self.modalities = present  # modalities that at least one item has
        self.index = {item_id: row for row, item_id in enumerate(item_ids)}

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def build(cls, pattern: str, data: DataConfig, folder: Path, vocabulary_sizes: Mapping[str, int] | None = None) -> ItemTable:
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
        for parsed in _records(files).batch(_PARSE_BATCH).map(lambda batch: tf.io.parse_example(batch, spec)).as_numpy_iterator():
            start, stop = len(item_ids), len(item_ids) + len(parsed["item_id"])
            for feature in features:
                arrays[feature.name][start:stop] = _as_array(feature, parsed[feature.name])
            item_ids.extend(parsed["item_id"].tolist())
        if len(set(item_ids)) != num_items:
            raise ValueError(f"{num_items - len(set(item_ids))} item ids come more than once in {pattern}")
        sizes = {
            feature.vocabulary: max(int(arrays[feature.name].max()) + 1, 2, (vocabulary_sizes or {}).get(feature.vocabulary, 0))
            for feature in features
            if feature.vocabulary
        }
        present = tuple(name for name in modalities(data) if arrays[f"has_{name}"].any())
        for array in arrays.values():
            array.flush()
        content = {"items": [item_id.decode() for item_id in item_ids], "vocabulary_sizes": sizes, "modalities": present}
        (folder / "spec.json").write_text(json.dumps(content, ensure_ascii=False))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> ItemTable:
        """The table that `build` wrote."""
        spec = json.loads((folder / "spec.json").read_text())
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        return cls(arrays, [item.encode() for item in spec["items"]], spec["vocabulary_sizes"], tuple(spec["modalities"]))

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
    num_history: np.ndarray  # int64 [U], the first so many are history, the rest belong to the split
    ordered: np.ndarray  # bool [U], False = a set without time

    def __len__(self) -> int:
        return len(self.user_ids)

    @classmethod
    def read(cls, patterns: Sequence[str], item_index: Mapping[bytes, int], events: Sequence[str]) -> Sequences:
        """Read sequence examples. Interactions with items that the table lacks are left out; events: the names in the rules, in order."""
        codes = {name.encode(): code for code, name in enumerate(events, UNKNOWN_EVENT + 1)}
        files = [path for pattern in patterns for path in record_files(pattern)]
        users: list[bytes] = []
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("items", "events", "times_s", "weights", "positives")}
        lengths, num_history, ordered = [0], [], []
        for record in _records(files).as_numpy_iterator():
            example = tf.train.Example.FromString(record).features.feature
            rows = np.array([item_index.get(item, -1) for item in example["item_ids"].bytes_list.value], np.int32)
            known = rows >= 0
            times = np.array(example["timestamps_s"].int64_list.value, np.int64)
            users.append(example["user_id"].bytes_list.value[0])
            columns["items"].append(rows[known])
            columns["events"].append(
                np.array([codes.get(event, UNKNOWN_EVENT) for event in example["events"].bytes_list.value], np.int32)[known]
            )
            columns["times_s"].append((times if len(times) else np.zeros(len(rows), np.int64))[known])
            columns["weights"].append(np.array(example["weights"].float_list.value, np.float32)[known])
            columns["positives"].append(np.array(example["positives"].int64_list.value, bool)[known])
            lengths.append(int(known.sum()))
            num_history.append(int(known[: example["num_history"].int64_list.value[0]].sum()))
            ordered.append(bool(example["ordered"].int64_list.value[0]))
        dtypes = {"items": np.int32, "events": np.int32, "times_s": np.int64, "weights": np.float32, "positives": bool}
        flat = {name: np.concatenate([np.zeros(0, dtypes[name]), *parts]).astype(dtypes[name]) for name, parts in columns.items()}
        return cls(users, np.cumsum(lengths), **flat, num_history=np.array(num_history, np.int64), ordered=np.array(ordered, bool))

    def padded(self, rows: np.ndarray, history_only: bool = False, longest: int | None = None) -> dict[str, np.ndarray]:
        """The interactions of some users as rectangles, oldest first, padded at the end.

        rows: int [B]. history_only: the history of the split alone. longest: keep the most recent so many.
        Returns [B, L]: `items` (-1 = padding), `events` (0 = padding), `age_s` (before the last one, or before the split begins),
        `weights`, `positives`; and `ordered` [B].
        """
        starts, stops = self.splits[rows], self.splits[rows + 1]
        ends = starts + self.num_history[rows] if history_only else stops
        lengths = ends - starts if longest is None else np.minimum(ends - starts, longest)
        offsets = np.arange(max(int(lengths.max(initial=0)), 1))
        inside = offsets < lengths[:, None]
        at = np.where(inside, (ends - lengths)[:, None] + offsets, 0)
        if not len(self.items):
            at, inside = at, np.zeros_like(inside)
        pick = lambda array, empty: np.where(inside, array[at], empty).astype(array.dtype) if len(array) else np.full(at.shape, empty)  # noqa: E731
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
            "ordered": self.ordered[rows],
        }

    def counts(self, num_items: int) -> np.ndarray:
        """Positive interactions of each item, int64 [N]."""
        return np.bincount(self.items[self.positives], minlength=num_items)


def training_batches(
    sequences: Sequences, table: ItemTable, names: Sequence[str], batch_size: int, items_per_step: int, longest: int | None, seed: int
) -> Callable[[], Iterator[dict[str, Any]]]:
    """A function that gives one epoch of batches: users shuffled, with the candidates of the step and their features.

    `candidates` int32 [C]: the whole catalogue where it has at most `items_per_step` items, else the batch's items and a uniform
    sample, in ascending order. `items` of the batch are positions in `candidates` (-1 = padding). `features`: name -> [C, ...].
    """
    generator = np.random.default_rng(seed)
    users = np.flatnonzero(np.diff(sequences.splits) > 0)
    whole = len(table) <= items_per_step

    def epoch() -> Iterator[dict[str, Any]]:
        order = generator.permutation(users)
        for start in range(0, len(order), batch_size):
            batch = sequences.padded(order[start : start + batch_size], longest=longest)
            candidates = np.arange(len(table), dtype=np.int32) if whole else _sample(batch["items"], len(table), items_per_step, generator)
            positions = np.searchsorted(candidates, batch["items"]).astype(np.int32)
            batch["items"] = np.where(batch["items"] >= 0, positions, -1).astype(np.int32)
            yield {**batch, "candidates": candidates, "features": table.take(candidates, names)}

    return epoch


def as_dataset(epoch: Callable[[], Iterator[dict[str, Any]]]) -> tf.data.Dataset:
    """Batches as a tf.data.Dataset that reads ahead; every dimension but the features' own may change from step to step."""
    first = next(iter(epoch()))

    def spec(array: np.ndarray, fixed: int) -> tf.TensorSpec:
        return tf.TensorSpec([None] * (array.ndim - fixed) + list(array.shape[array.ndim - fixed :]), array.dtype)

    signature = {name: spec(array, 0) for name, array in first.items() if name != "features"}
    signature["features"] = {name: spec(array, array.ndim - 1) for name, array in first["features"].items()}
    return tf.data.Dataset.from_generator(epoch, output_signature=signature).prefetch(2)


def record_files(pattern: str) -> list[str]:
    """The TFRecord files of a pattern or of a folder, sorted."""
    return sorted(tf.io.gfile.glob(tf.io.gfile.join(pattern, "*") if tf.io.gfile.isdir(pattern) else pattern))


def _records(files: list[str]) -> tf.data.Dataset:
    parts = tf.data.Dataset.from_tensor_slices(tf.constant(files, tf.string))
    return parts.flat_map(
        lambda path: tf.data.TFRecordDataset(path, compression_type=tf.where(tf.strings.regex_full_match(path, r".*\.gz"), "GZIP", ""))
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


def _sample(items: np.ndarray, num_items: int, count: int, generator: np.random.Generator) -> np.ndarray:
    own = np.unique(items[items >= 0])
    extra = generator.integers(0, num_items, max(count - len(own), 0))
    return np.union1d(own, extra).astype(np.int32)
