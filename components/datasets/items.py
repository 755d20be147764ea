"""Item examples as arrays in the order of the catalogue: metadata, words, and the inputs of `encode_item`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.config import DataConfig
from components.datasets.interactions import Interactions
from components.datasets.records import record_dataset

_EXAMPLES_AT_ONCE = 1024
_ITEMS_AT_ONCE = 64  # with their media
_UNDATED = np.iinfo(np.int64).min  # films are older than 1970, so no sign will do
_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u4e00-\u9fff]+")


@dataclass(frozen=True)
class ItemMetadata:
    """What item examples say of the items beside their content."""

    domains: np.ndarray  # object [num_items], str, "" where absent
    creators: np.ndarray  # object [num_items], str, "" where absent
    categories: np.ndarray  # object [num_items, num_categorical], str, "" where absent
    numeric: np.ndarray  # float32 [num_items, 1 + num_numeric], `duration_s` and the declared numbers, NaN where absent
    published_at_s: np.ndarray  # float64 [num_items], seconds since 1970, NaN where unknown

    def padded(self, rows: int) -> ItemMetadata:
        """With so many items more of which nothing is known."""

        def longer(values: np.ndarray, fill: Any) -> np.ndarray:
            return np.concatenate([values, np.full((rows, *values.shape[1:]), fill, values.dtype)])

        texts = (longer(part, "") for part in (self.domains, self.creators, self.categories))
        return ItemMetadata(*texts, *(longer(part, np.nan) for part in (self.numeric, self.published_at_s)))


def read_item_metadata(
    pattern: str, item_ids: Sequence[str], categorical: Sequence[str] = (), numeric: Sequence[str] = ()
) -> ItemMetadata:
    """The metadata in item examples.

    pattern: TFRecord files or a folder. item_ids: of the rows. categorical, numeric: the declared columns.
    Raises KeyError for an item that is not there.
    """
    features = {
        "item_id": tf.io.FixedLenFeature([], tf.string),
        "published_at": tf.io.FixedLenFeature([], tf.int64, _UNDATED),
    }
    features |= {name: tf.io.FixedLenFeature([], tf.string, "") for name in ("domain", "creator", *categorical)}
    features |= {name: tf.io.FixedLenFeature([], tf.float32, np.nan) for name in ("duration_s", *numeric)}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in features}
    for batch in record_dataset(pattern).batch(_EXAMPLES_AT_ONCE):
        for name, values in tf.io.parse_example(batch, features).items():
            columns[name].append(values.numpy())
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    row_of = {item_id.decode(): row for row, item_id in enumerate(arrays["item_id"])}
    rows = np.array([row_of[item_id] for item_id in item_ids])
    published = arrays["published_at"][rows]

    def text(name: str) -> np.ndarray:
        return np.array([value.decode() for value in arrays[name][rows]], object)

    return ItemMetadata(
        text("domain"),
        text("creator"),
        np.stack(list(map(text, categorical)), 1) if categorical else np.zeros((len(rows), 0), object),
        np.stack([arrays[name][rows] for name in ("duration_s", *numeric)], 1),
        np.where(published == _UNDATED, np.nan, published.astype(np.float64)),
    )


def available_from_s(metadata: ItemMetadata, data: DataConfig, interactions: Sequence[Interactions] = ()) -> np.ndarray:
    """From when on each item is a candidate: when it was published, else by `data.undated_items`.

    interactions: all splits, among which the first event of an item without a date is looked for.
    Returns float64 [num_items], seconds since 1970, -inf = always.
    """
    from_s = metadata.published_at_s
    if data.undated_items == "from_first_event":
        for split in interactions:
            from_s = np.where(
                np.isnan(metadata.published_at_s), np.fmin(from_s, split.first_event_s(len(from_s))), from_s
            )
    return np.where(np.isnan(from_s), -np.inf, from_s)


def read_item_words(pattern: str, item_ids: Sequence[str]) -> list[list[str]]:
    """The words of title, description and tags of each item; a Chinese or Japanese character is a word.

    pattern: TFRecord files or a folder of item examples. item_ids: of the rows.
    """
    texts = {name: tf.io.FixedLenFeature([], tf.string, "") for name in ("title", "description")}
    features = {"item_id": tf.io.FixedLenFeature([], tf.string), "tags": tf.io.RaggedFeature(tf.string), **texts}
    words: dict[bytes, list[str]] = {}
    for batch in record_dataset(pattern).batch(_EXAMPLES_AT_ONCE):
        parsed = tf.io.parse_example(batch, features)
        joined = tf.strings.join(
            [parsed["title"], parsed["description"], tf.strings.reduce_join(parsed["tags"], -1, separator=" ")], " "
        )
        words |= {
            item_id: _WORD.findall(text.decode().lower())
            for item_id, text in zip(parsed["item_id"].numpy(), joined.numpy())
        }
    return [words[item_id.encode()] for item_id in item_ids]


def encode_item_batches(
    encode_item: Any, pattern: str, batch_size: int = _ITEMS_AT_ONCE
) -> Iterator[tuple[list[bytes], dict[str, tf.Tensor]]]:
    """Item examples in batches: their ids, and the inputs of a model's signature `encode_item`.

    pattern: TFRecord files or a folder.
    """
    for batch in record_dataset(pattern).batch(batch_size):
        yield encode_item_inputs(encode_item, batch)


def encode_item_inputs(encode_item: Any, examples: Any) -> tuple[list[bytes], dict[str, tf.Tensor]]:
    """A batch of item examples: their ids, and the inputs of a model's signature `encode_item`.

    examples: string [batch], serialized. What is absent from a list of free length is "", NaN or -1, by its type.
    """
    absent = {tf.string: "", tf.float32: np.nan, tf.int64: -1}
    specs = encode_item.structured_input_signature[1]
    has_free_length = {name: spec.shape.as_list() == [None, None] for name, spec in specs.items()}
    features = {"item_id": tf.io.FixedLenFeature([], tf.string)}
    for name, spec in specs.items():
        features[name] = (
            tf.io.RaggedFeature(spec.dtype)
            if has_free_length[name]
            else tf.io.FixedLenFeature(spec.shape[1:], spec.dtype)
        )
    if has_free_length.get("item_id"):
        features["item_id"] = tf.io.RaggedFeature(tf.string)
    parsed = tf.io.parse_example(examples, features)
    inputs = {
        name: parsed[name].to_tensor(absent[specs[name].dtype]) if has_free_length[name] else parsed[name]
        for name in specs
    }
    ids = parsed["item_id"].flat_values if has_free_length.get("item_id") else parsed["item_id"]
    return ids.numpy().tolist(), inputs
