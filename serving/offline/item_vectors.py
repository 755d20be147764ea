"""Item vectors from items, transformed or raw, by Beam's RunInference over a SavedModel's signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, RunInference

from components.contract import VIEWS
from serving.loaded import load_once

_ITEMS_AT_ONCE = 1024  # of a bundle
_BYTES_AT_ONCE = 6_000_000  # of the model: some 64 items with sound and pictures
_ABSENT = {tf.string: "", tf.float32: np.nan, tf.int64: -1}  # in lists of free length; as `encode_item` documents it


class ItemTower(ModelHandler):
    """Runs a signature of the SavedModel at `path` over serialized items of its kind; gives (item id, views) pairs.

    The views are `vector` and those of VIEWS that the model tells, float32 [D] each.

    signature: `item_tower` takes transformed items, `encode_item` item examples.
    """

    def __init__(self, path: str, signature: str):
        super().__init__()
        self._path, self._signature = path, signature

    def load_model(self) -> Any:
        loaded = load_once(self._path)
        tower = loaded.signatures[self._signature]
        tower.owner = loaded  # the variables live as long as what loaded them
        return tower

    def run_inference(
        self, batch: Sequence[bytes], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[tuple[bytes, dict[str, np.ndarray]]]:
        size = max(_BYTES_AT_ONCE // max(map(len, batch)), 1)
        for start in range(0, len(batch), size):
            yield from self._encoded(batch[start : start + size], model)

    @staticmethod
    def _encoded(batch: Sequence[bytes], model: Any) -> Iterable[tuple[bytes, dict[str, np.ndarray]]]:
        specs = model.structured_input_signature[1]
        features = {name: _feature(spec) for name, spec in specs.items()}
        parsed = tf.io.parse_example(tf.constant(list(batch)), features)
        inputs = {name: _dense(parsed[name]) for name in specs}
        ids = tf.io.parse_example(tf.constant(list(batch)), {"item_id": tf.io.FixedLenFeature([], tf.string)})[
            "item_id"
        ]
        outputs = model(**inputs)
        views = {name: outputs[name].numpy() for name in ("vector", *VIEWS) if name in outputs}
        return [
            (item_id, {name: vectors[row] for name, vectors in views.items()})
            for row, item_id in enumerate(ids.numpy())
        ]

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        return {"min_batch_size": _ITEMS_AT_ONCE, "max_batch_size": _ITEMS_AT_ONCE}


class WriteItemVectors(beam.PTransform):
    """Serialized items -> a gzipped record an item: a tf.Example with `item_id` and the bytes of each view's float32.

    signature: see `ItemTower`.
    """

    def __init__(self, model_path: str, target: str, signature: str = "item_tower"):
        super().__init__()
        self._model_path, self._target, self._signature = model_path, target, signature

    def expand(self, items: beam.PCollection) -> Any:
        return (
            items
            | "EncodeItems" >> RunInference(ItemTower(self._model_path, self._signature))
            | "FormatVectors" >> beam.Map(_vector_record)
            | "WriteVectors" >> beam.io.WriteToTFRecord(self._target, file_name_suffix=".gz")
        )


def read_item_vectors(target: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """What `WriteItemVectors` wrote, in the order of the ids' bytes: ids, and each view as float32 [N, D].

    Raises ValueError where an id comes twice, or there is none.
    """
    records = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(f"{target}*")), "GZIP")
    first = next(records.take(1).as_numpy_iterator(), None)
    if first is None:
        raise ValueError(f"no items in {target}")
    fields = tf.train.Example.FromString(first).features.feature
    names = [name for name in ("vector", *VIEWS) if name in fields]
    spec = dict.fromkeys(["item_id", *names], tf.io.FixedLenFeature([], tf.string))
    batches = [tf.io.parse_example(batch, spec) for batch in records.batch(_ITEMS_AT_ONCE)]
    ids = np.concatenate([batch["item_id"].numpy() for batch in batches])
    order = np.argsort(ids, kind="stable")
    item_ids = ids[order]
    again = np.flatnonzero(item_ids[1:] == item_ids[:-1])
    if len(again):
        raise ValueError(f"item {item_ids[again[0]].decode()!r} comes twice")
    views = {
        name: np.concatenate([tf.io.decode_raw(batch[name], tf.float32).numpy() for batch in batches])[order]
        for name in names
    }
    return [item_id.decode() for item_id in item_ids], views


def _feature(spec: tf.TensorSpec) -> tf.io.FixedLenFeature | tf.io.RaggedFeature:
    if spec.shape.as_list() == [None, None]:
        return tf.io.RaggedFeature(spec.dtype)
    # Arrays of uint8 travel as bytes and are absent where the item has no such medium.
    return tf.io.FixedLenFeature(spec.shape[1:], spec.dtype, "" if spec.dtype == tf.string else None)


def _dense(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    return values.to_tensor(_ABSENT[values.dtype]) if isinstance(values, tf.RaggedTensor) else values


def _vector_record(pair: tuple[bytes, dict[str, np.ndarray]]) -> bytes:
    item_id, views = pair
    parts = {"item_id": item_id, **{name: vector.astype("<f4").tobytes() for name, vector in views.items()}}
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[part])) for name, part in parts.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
