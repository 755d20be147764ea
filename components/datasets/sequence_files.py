"""Sequence examples parsed many users at a time, their texts as codes: no Python object an interaction.

B users, n interactions of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from components.datasets.records import record_dataset

_USERS_AT_ONCE = 1024
_TYPES = {
    "item_ids": tf.string,
    "events": tf.string,
    "timestamps_s": tf.int64,
    "weights": tf.float32,
    "positives": tf.int64,
    "values": tf.float32,
}


class ParsedUsers(NamedTuple):
    """Some users, one after the other as in the files."""

    user_ids: list[bytes]
    lengths: np.ndarray  # int64 [B], interactions of each
    num_history: np.ndarray  # int64 [B]
    ordered: np.ndarray  # bool [B]
    items: np.ndarray  # int64 [n], rows of the catalogue
    events: np.ndarray  # int32 [n], places in `event_names`
    event_names: list[bytes]  # that occur here
    times_s: np.ndarray  # float64 [n], NaN where unknown
    weights: np.ndarray  # float32 [n]
    positives: np.ndarray  # bool [n]
    values: np.ndarray  # float32 [n], NaN where absent


def parsed_users(patterns: Sequence[str], item_ids: Sequence[bytes]) -> Iterator[ParsedUsers]:
    """The users of TFRecord files or folders of sequence examples (docs/artifacts.md, "Sequences").

    item_ids: of the catalogue's rows. Raises ValueError where an interaction's item is not in the catalogue.
    """
    rows = tf.range(len(item_ids), dtype=tf.int64)
    row_of_item = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(item_ids, tf.string, [len(item_ids)]), rows), -1
    )
    features: dict[str, Any] = {
        name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64) for name, dtype in _TYPES.items()
    }
    features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in ("num_history", "ordered")}
    features["user_id"] = tf.io.FixedLenFeature([], tf.string)

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.io.parse_example(records, features)
        names, events = tf.unique(found["events"].values)
        lengths = {f"num_{name}": found[name].row_lengths() for name in _TYPES}
        flat = {name: found[name].values for name in ("timestamps_s", "weights", "positives", "values")}
        alone = {name: found[name] for name in ("user_id", "num_history", "ordered")}
        items = row_of_item.lookup(found["item_ids"].values)
        return {"records": records, "items": items, "events": events, "event_names": names, **lengths, **flat, **alone}

    for pattern in patterns:
        for batch in record_dataset(pattern).batch(_USERS_AT_ONCE).map(parse).prefetch(1):
            records = batch.pop("records")
            arrays = {name: tensor.numpy() for name, tensor in batch.items()}
            if (arrays["items"] < 0).any():
                raise ValueError(_unknown_items(arrays, records, features))
            yield _users(arrays)


def _users(arrays: dict[str, np.ndarray]) -> ParsedUsers:
    lengths, num_times = arrays["num_item_ids"], arrays["num_timestamps_s"]
    for name in ("events", "weights", "positives", "values"):
        assert (arrays[f"num_{name}"] == lengths).all(), "columns are of one length"
    assert (num_times[num_times > 0] == lengths[num_times > 0]).all(), "all of a user have times, or none"
    times_s = np.full(lengths.sum(), np.nan)
    times_s[np.repeat(num_times > 0, lengths)] = arrays["timestamps_s"]
    return ParsedUsers(
        arrays["user_id"].tolist(),
        lengths,
        arrays["num_history"],
        arrays["ordered"] > 0,
        arrays["items"],
        arrays["events"],
        arrays["event_names"].tolist(),
        times_s,
        arrays["weights"],
        arrays["positives"] > 0,
        arrays["values"],
    )


def _unknown_items(arrays: dict[str, np.ndarray], records: tf.Tensor, features: dict[str, Any]) -> str:
    """Of the first user with an item that is not in the catalogue."""
    owners = np.repeat(np.arange(len(arrays["num_item_ids"])), arrays["num_item_ids"])
    user = owners[arrays["items"] < 0][0]
    item_ids = tf.io.parse_example(records, features)["item_ids"][user].numpy()
    unknown = sorted(set(item_ids[arrays["items"][owners == user] < 0].tolist()))
    return (
        f"{len(unknown)} items of the interactions of {arrays['user_id'][user].decode()!r} are not "
        f"in the catalogue, {unknown[0].decode()!r} for one: are these artifacts of one run?"
    )
