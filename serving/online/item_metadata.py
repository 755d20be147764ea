"""What item examples say of the items, in the order in which they are asked for. N items, G categories, M numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

_EXAMPLES_AT_ONCE = 1024
_UNDATED = np.iinfo(np.int64).min  # films are older than 1970, so no sign will do


@dataclass(frozen=True)
class ItemFacts:
    """domains, creators: str objects [N], "" where absent. categories: the same [N, G]. numeric: float32 [N, M], `duration_s` and the
    declared numbers, NaN where absent. published_at_s: float64 [N], NaN where unknown.
    """

    domains: np.ndarray
    creators: np.ndarray
    categories: np.ndarray
    numeric: np.ndarray
    published_at_s: np.ndarray

    def padded(self, rows: int) -> ItemFacts:
        """With so many rows more of which nothing is known."""

        def longer(values: np.ndarray, fill) -> np.ndarray:
            return np.concatenate([values, np.full((rows, *values.shape[1:]), fill, values.dtype)])

        texts = (longer(part, "") for part in (self.domains, self.creators, self.categories))
        return ItemFacts(*texts, *(longer(part, np.nan) for part in (self.numeric, self.published_at_s)))


def read_facts(
    folder: str, item_ids: Sequence[str], categorical: Sequence[str] = (), numeric: Sequence[str] = ()
) -> ItemFacts:
    """The facts in a folder of item examples. categorical, numeric: the declared columns. Raises KeyError for an item that is not there."""
    features = {
        "item_id": tf.io.FixedLenFeature([], tf.string),
        "published_at": tf.io.FixedLenFeature([], tf.int64, _UNDATED),
    }
    features |= {name: tf.io.FixedLenFeature([], tf.string, "") for name in ("domain", "creator", *categorical)}
    features |= {name: tf.io.FixedLenFeature([], tf.float32, np.nan) for name in ("duration_s", *numeric)}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in features}
    files = sorted(tf.io.gfile.glob(f"{folder}/*"))
    for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_EXAMPLES_AT_ONCE):
        for name, values in tf.io.parse_example(batch, features).items():
            columns[name].append(values.numpy())
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    row_of = {item_id.decode(): row for row, item_id in enumerate(arrays["item_id"])}
    rows = np.array([row_of[item_id] for item_id in item_ids])
    published = arrays["published_at"][rows]

    def text(name: str) -> np.ndarray:
        return np.array([value.decode() for value in arrays[name][rows]], object)

    return ItemFacts(
        text("domain"),
        text("creator"),
        np.stack(list(map(text, categorical)), 1) if categorical else np.zeros((len(rows), 0), object),
        np.stack([arrays[name][rows] for name in ("duration_s", *numeric)], 1),
        np.where(published == _UNDATED, np.nan, published.astype(np.float64)),
    )
