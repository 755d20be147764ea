"""User histories of requests: given with the request, or stored in the servable at training time.

B requests, L interactions given, H most recent known ones, U people, T interactions of all of them. Positions are rows
of the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.datasets.interactions import FIRST_EVENT, Interactions, ages_s
from serving.index import pad_to
from serving.online.catalog import LiveCatalog
from serving.online.vocabularies import Vocabularies, lookup


@dataclass(frozen=True)
class Histories:
    """The interactions of all users of the training data, so that `user_id` alone is a full request.

    splits: int64 [U + 1], the bounds of each user's rows in the others. items: int32 [T] positions, oldest first.
    events: int32 [T], which of `event_names`. age_s: float32 [T], seconds before the last event of the data, 0 where
    unknown.
    """

    user_ids: Sequence[str]
    splits: np.ndarray
    items: np.ndarray
    events: np.ndarray
    age_s: np.ndarray
    event_names: Sequence[str]
    history_length: int  # of a longer history the most recent so many count

    @classmethod
    def of(cls, interactions: Interactions, history_length: int) -> Histories:
        """All interactions of everyone, with the events by name; their ages count from the last event of all."""
        known = interactions.times_s[~np.isnan(interactions.times_s)]
        return cls(
            user_ids=interactions.user_ids,
            splits=interactions.splits,
            items=interactions.items,
            events=interactions.events - FIRST_EVENT,
            age_s=ages_s(interactions.times_s, known.max(initial=-np.inf)),
            event_names=interactions.event_names,
            history_length=history_length,
        )


class History(NamedTuple):
    """The most recent known interactions of each request, padded on the right."""

    items: tf.Tensor  # int32 [B, H] positions, oldest first, -1 where padded
    events: tf.Tensor  # string [B, H]
    age_s: tf.Tensor  # float32 [B, H]
    seen: tf.Tensor  # int32 [B, *] positions of all interactions, given and known, -1 = none

    @classmethod
    def empty(cls, batch: tf.Tensor) -> History:
        """Nothing is known of so many requests."""
        none = tf.fill([batch, 1], -1)
        return cls(none, tf.fill([batch, 1], ""), tf.zeros([batch, 1]), none)

    @property
    def length(self) -> tf.Tensor:
        """int32 [B]."""
        return tf.reduce_sum(tf.cast(self.items >= 0, tf.int32), 1)


class HistoryStore(tf.Module):
    """The stored histories as constants of the graph, for requests that bring none."""

    def __init__(self, histories: Histories, catalog: LiveCatalog, vocabularies: Vocabularies):
        super().__init__()
        self._catalog, self._longest = catalog, histories.history_length
        self._user_rows = vocabularies.table(histories.user_ids, "user_ids.txt")
        self._splits = _fixed(histories.splits, tf.int64)  # [U + 1]
        self._items = _fixed(histories.items, tf.int32)  # [T]
        self._events = _fixed(histories.events, tf.int32)  # [T]
        self._age_s = _fixed(histories.age_s, tf.float32)  # [T]
        self._event_names = _fixed(np.array([*histories.event_names, ""], object), tf.string)

    def history(self, user_id, history_ids, history_events, history_age_s) -> History:
        """user_id: string [B]; the rest [B, L]. A history without any known id gives way to the stored one."""
        shape = tf.shape(history_ids)
        checks = [
            tf.debugging.assert_equal(shape[0], tf.shape(user_id)[0], "history_ids must have a row for each user_id"),
            tf.debugging.assert_equal(
                tf.shape(history_events), shape, "history_events must have the shape of history_ids"
            ),
            tf.debugging.assert_equal(
                tf.shape(history_age_s), shape, "history_age_s must have the shape of history_ids"
            ),
        ]
        with tf.control_dependencies(checks):
            given = self._catalog.rows(tf.identity(history_ids))
        is_known = given >= 0
        given_rows = [tf.ragged.boolean_mask(values, is_known) for values in (given, history_events, history_age_s)]
        rows = lookup(self._user_rows, user_id)
        starts, stops = (tf.gather(self._splits, tf.where(rows >= 0, rows + end, 0)) for end in (0, 1))
        at = tf.ragged.range(starts, stops)
        events = tf.gather(self._event_names, tf.gather(self._events, at))
        stored_rows = [tf.gather(self._items, at), events, tf.gather(self._age_s, at)]
        is_given = tf.reduce_any(is_known, 1)
        recent = []
        for given_row, stored_row, fill in zip(given_rows, stored_rows, (-1, "", 0.0)):
            pair = [row[:, -self._longest :].to_tensor(fill) for row in (given_row, stored_row)]
            width = tf.maximum(tf.maximum(tf.shape(pair[0])[1], tf.shape(pair[1])[1]), 1)
            recent.append(tf.where(is_given[:, None], *(pad_to(values, width, fill) for values in pair)))
        items, events, age_s = recent
        age_s = tf.where(tf.math.is_finite(age_s), tf.maximum(age_s, 0.0), 0.0)
        return History(items, events, age_s, tf.concat([given, stored_rows[0].to_tensor(-1)], 1))


def _fixed(values, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.constant(values, dtype), trainable=False)
