"""Sequences and item examples on disk -> the arrays that index, evaluation and answer are made from.

U users, T interactions of all users, N items in the order of the index, D dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from serving.index import Index
from serving.online.histories import Histories

SPLITS = ("train", "eval", "test")
_USERS_AT_ONCE = 256
_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u4e00-\u9fff]+")
_EXAMPLES_AT_ONCE = 1024
_ITEMS_AT_ONCE = 64  # with their media
_HALF_LIVES_IN_DATA = 10  # recent popularity halves over a tenth of the time that the data covers


@dataclass(frozen=True)
class People:
    """The sequences of one split (docs/architecture.md), users in the order of their ids."""

    user_ids: list[str]
    splits: np.ndarray  # int64 [U + 1], the bounds of each user's interactions in the arrays below
    items: np.ndarray  # int32 [T], positions in the index, oldest first
    events: np.ndarray  # object [T], str
    times_s: np.ndarray  # float64 [T], seconds since 1970, NaN without time
    positives: np.ndarray  # bool [T]
    num_history: np.ndarray  # int64 [U], the first so many are history, the rest belongs to the split

    @property
    def user_rows(self) -> np.ndarray:
        """int64 [T], whose interaction it is."""
        return np.repeat(np.arange(len(self.user_ids)), np.diff(self.splits))

    @property
    def is_history(self) -> np.ndarray:
        """bool [T]."""
        return np.arange(len(self.items)) < (self.splits[:-1] + self.num_history)[self.user_rows]

    def matrix(self, chosen: np.ndarray, num_items: int) -> sp.csr_matrix:
        """float64 [U, N], 1 where a user has a chosen (bool [T]) interaction with an item."""
        ones = np.ones(int(chosen.sum()))
        counts = sp.csr_matrix((ones, (self.user_rows[chosen], self.items[chosen])), (len(self.user_ids), num_items))
        return (counts > 0).astype(np.float64)


def read_people(folder: str, item_ids: Sequence[str]) -> People:
    """The sequences in a split's folder.

    Raises ValueError naming the first item that is not in the index.
    """
    features = {
        name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
        for name, dtype in (
            ("item_ids", tf.string),
            ("events", tf.string),
            ("timestamps_s", tf.int64),
            ("positives", tf.int64),
        )
    }
    scalars = {"user_id": tf.io.FixedLenFeature([], tf.string), "num_history": tf.io.FixedLenFeature([], tf.int64)}
    position = {item_id.encode(): row for row, item_id in enumerate(item_ids)}
    rows: list[tuple[Any, ...]] = []
    for batch in _batches(folder):
        parsed = tf.io.parse_example(batch, features | scalars)
        lists = [parsed[name].to_list() for name in features]
        rows += zip(parsed["user_id"].numpy(), parsed["num_history"].numpy(), *lists)
    rows.sort(key=lambda row: row[0])
    unknown = {item for row in rows for item in row[2]} - position.keys()
    if unknown:
        raise ValueError(
            f"{len(unknown)} items of the sequences are not in the index, {min(unknown).decode()!r} for one"
        )
    return People(
        user_ids=[row[0].decode() for row in rows],
        splits=np.concatenate([[0], np.cumsum([len(row[2]) for row in rows], dtype=np.int64)]).astype(np.int64),
        items=np.array([position[item] for row in rows for item in row[2]], np.int32),
        events=np.array([event.decode() for row in rows for event in row[3]], object),
        times_s=np.array([time for row in rows for time in (row[4] or [np.nan] * len(row[2]))], np.float64),
        positives=np.array([flag for row in rows for flag in row[5]], bool),
        num_history=np.array([row[1] for row in rows], np.int64),
    )


def encode_users(
    user_tower: Any, vectors: np.ndarray, people: People, stops: np.ndarray, history_length: int
) -> np.ndarray:
    """The vectors of users as they stood before interaction `stops` of each, asking at the time of that interaction.

    user_tower: the model's signature. vectors: float32 [N, D]. stops: int64 [U], in 0..n of each user. Returns float32 [U, D].
    """
    encoded = []
    for start in range(0, len(people.user_ids), _USERS_AT_ONCE):
        users = np.arange(start, min(start + _USERS_AT_ONCE, len(people.user_ids)))
        ends = people.splits[users] + stops[users]
        lengths = np.minimum(stops[users], history_length)
        width = max(int(lengths.max()), 1)
        is_there = np.arange(width) < lengths[:, None]  # [B, L]
        at = np.where(is_there, (ends - lengths)[:, None] + np.arange(width), 0)
        asked_at = np.array([_asked_at(people, user, end) for user, end in zip(users, ends)])
        pick = (
            (lambda values, at=at: values[at])
            if len(people.items)
            else (lambda values, at=at: np.zeros(at.shape, values.dtype))
        )
        age_s = np.nan_to_num(np.where(is_there, np.maximum(asked_at[:, None] - pick(people.times_s), 0), 0))
        vector = user_tower(
            user_id=tf.constant([people.user_ids[user] for user in users]),
            history_vectors=tf.constant(vectors[pick(people.items)] * is_there[:, :, None], tf.float32),
            history_events=tf.constant(np.where(is_there, pick(people.events), "").astype(str)),
            history_age_s=tf.constant(age_s, tf.float32),
        )["vector"]
        encoded.append(vector.numpy())
    return np.concatenate(encoded) if encoded else np.zeros((0, vectors.shape[1]), np.float32)


def _asked_at(people: People, user: int, end: int) -> float:
    if end < people.splits[user + 1]:
        return people.times_s[end]
    return people.times_s[end - 1] if end > people.splits[user] else np.nan


def latest(splits: Sequence[People]) -> People:
    """All that is known of everyone: of each user the sequence of the last split, which holds the earlier ones as its history."""
    last = {
        user_id: (number, row) for number, people in enumerate(splits) for row, user_id in enumerate(people.user_ids)
    }
    rows_of = [[row for number, row in last.values() if number == wanted] for wanted in range(len(splits))]
    parts = [select(people, np.array(rows, np.int64)) for people, rows in zip(splits, rows_of)]
    lengths = np.concatenate([np.diff(part.splits) for part in parts])
    return People(
        [user_id for part in parts for user_id in part.user_ids],
        np.concatenate([[0], np.cumsum(lengths)]),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("items", "events", "times_s", "positives", "num_history")
        ),
    )


def histories_of(people: People) -> Histories:
    """What the answer stores of people: ages count from the last event of all."""
    known = people.times_s[~np.isnan(people.times_s)]
    event_names = sorted(set(people.events))
    code = {name: number for number, name in enumerate(event_names)}
    return Histories(
        user_ids=people.user_ids,
        splits=people.splits,
        items=people.items,
        events=np.array([code[event] for event in people.events], np.int32),
        age_s=np.nan_to_num((known.max() if len(known) else 0.0) - people.times_s).astype(np.float32),
        event_names=event_names,
    )


def recent_popularity(items: np.ndarray, times_s: np.ndarray, num_items: int) -> np.ndarray:
    """How much each item was taken lately: an interaction counts half for every tenth of the data's time that it is old.

    items: int [T] of positive interactions. times_s: float [T], NaN = counts in full. Returns float64 [N].
    """
    known = times_s[~np.isnan(times_s)]
    half_life_s = max(np.ptp(known) / _HALF_LIVES_IN_DATA, 1.0) if len(known) else 1.0
    age_s = np.nan_to_num((known.max() if len(known) else 0.0) - times_s)
    return np.bincount(items, 0.5 ** (age_s / half_life_s), num_items)


def read_item_words(folder: str, item_ids: Sequence[str]) -> list[list[str]]:
    """The words of title, description and tags of item examples, in the order of the index; a Chinese or Japanese character is a word."""
    texts = {name: tf.io.FixedLenFeature([], tf.string, "") for name in ("title", "description")}
    features = {"item_id": tf.io.FixedLenFeature([], tf.string), "tags": tf.io.RaggedFeature(tf.string), **texts}
    words: dict[bytes, list[str]] = {}
    for batch in _batches(folder):
        parsed = tf.io.parse_example(batch, features)
        joined = tf.strings.join(
            [parsed["title"], parsed["description"], tf.strings.reduce_join(parsed["tags"], -1, separator=" ")], " "
        )
        words |= {
            item_id: _WORD.findall(text.decode().lower())
            for item_id, text in zip(parsed["item_id"].numpy(), joined.numpy())
        }
    return [words[item_id.encode()] for item_id in item_ids]


def encode_raw_items(encode_item: Any, folder: str, item_ids: Sequence[str]) -> np.ndarray:
    """Vectors of item examples by a model's signature `encode_item`, in the order of the index: float32 [N, D]."""
    vectors: dict[bytes, np.ndarray] = {}
    for ids, inputs in raw_items(encode_item, folder):
        vectors |= dict(zip(ids, encode_item(**inputs)["vector"].numpy()))
    return np.stack([vectors[item_id.encode()] for item_id in item_ids])


def raw_items(
    encode_item: Any, folder: str, size: int = _ITEMS_AT_ONCE
) -> Iterator[tuple[list[bytes], dict[str, tf.Tensor]]]:
    """Batches of item examples: their ids, and what `encode_item` takes."""
    for batch in _batches(folder, size):
        yield raw_inputs(encode_item, batch)


def raw_inputs(encode_item: Any, records: Any) -> tuple[list[bytes], dict[str, tf.Tensor]]:
    """Serialized item examples, a batch: their ids, and what `encode_item` takes; what is absent is "", NaN or -1, by its type."""
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
    parsed = tf.io.parse_example(records, features)
    inputs = {
        name: parsed[name].to_tensor(absent[specs[name].dtype]) if has_free_length[name] else parsed[name]
        for name in specs
    }
    ids = parsed["item_id"].flat_values if has_free_length.get("item_id") else parsed["item_id"]
    return ids.numpy().tolist(), inputs


def user_vectors(user_tower: Any, index: Index, people: People, history_length: int, count: int) -> np.ndarray:
    """Vectors of up to `count` users with a history, spread evenly over all: queries of the kind that the index is asked."""
    lengths = np.diff(people.splits)
    rows = np.flatnonzero(lengths > 0)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))] if len(rows) else rows
    return encode_users(user_tower, index.vectors.numpy(), select(people, rows), lengths[rows], history_length)


def select(people: People, rows: np.ndarray) -> People:
    """The same of some users."""
    at = np.concatenate(
        [np.arange(people.splits[row], people.splits[row + 1]) for row in rows] or [np.zeros(0, np.int64)]
    ).astype(np.int64)
    return People(
        [people.user_ids[row] for row in rows],
        np.concatenate([[0], np.cumsum(np.diff(people.splits)[rows])]).astype(np.int64),
        people.items[at],
        people.events[at],
        people.times_s[at],
        people.positives[at],
        people.num_history[rows],
    )


def _batches(folder: str, size: int = _EXAMPLES_AT_ONCE) -> tf.data.Dataset:
    files = sorted(tf.io.gfile.glob(f"{folder}/*"))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").batch(size)
