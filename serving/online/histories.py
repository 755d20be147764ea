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
from serving.online import checks
from serving.online.catalog import LiveCatalog
from serving.online.vocabularies import Vocabularies, lookup


@dataclass(frozen=True)
class Histories:
    """The interactions of all users of the training data, so that `user_id` alone is a full request.

    splits: int64 [U + 1], the bounds of each user's rows in the others. items: int32 [T] positions, oldest first.
    events: int32 [T], which of `event_names`. age_s: float32 [T], seconds before the last event of the data, NaN where
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
        is_known = ~np.isnan(interactions.times_s)
        ages = ages_s(interactions.times_s, interactions.times_s[is_known].max(initial=-np.inf))
        return cls(
            user_ids=interactions.user_ids,
            splits=interactions.splits,
            items=interactions.items,
            events=interactions.events - FIRST_EVENT,
            age_s=np.where(is_known, ages, np.nan).astype(np.float32),
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
        self._num_stored = len(histories.items)
        # One row more than there are interactions, of none: what is not there is gathered from it.
        self._items = _fixed(np.append(histories.items, -1), tf.int32)  # [T + 1]
        self._events = _fixed(np.append(histories.events, len(histories.event_names)), tf.int32)
        self._age_s = _fixed(np.append(histories.age_s, np.nan), tf.float32)
        self._event_names = _fixed(np.array([*histories.event_names, ""], object), tf.string)

    def history(self, user_id, history_ids, history_events, history_age_s, time_s) -> History:
        """user_id: string, time_s: int64 [B]; the rest [B, L]. A history without any known id gives way to the stored
        one as it was at the time of the request, and with the ages of that time; `seen` has what came later too.
        """
        with tf.control_dependencies([checks.of_history(user_id, history_ids, history_events, history_age_s)]):
            given = self._catalog.rows(tf.identity(history_ids))
        is_known = given >= 0
        user = lookup(self._user_rows, user_id)
        start, stop = (tf.gather(self._splits, tf.where(user >= 0, user + end, 0)) for end in (0, 1))
        num_known, num_stored = tf.reduce_sum(tf.cast(is_known, tf.int64), 1), stop - start
        now_s = self._catalog.now_s
        later_s = tf.cast(tf.where(now_s > 0, self._catalog.time_or_now(time_s) - now_s, 0), tf.float32)[:, None]
        most = tf.maximum(tf.reduce_max(num_stored), 0)  # the maximum of no request at all is the smallest int64
        seen_at = self._stored_at(start, num_stored, most)
        is_to_come = tf.gather(self._age_s, seen_at) + later_s < 0
        num_past = num_stored - tf.reduce_sum(tf.cast(is_to_come, tf.int64), 1)
        is_given = num_known > 0
        length = tf.minimum(tf.where(is_given, num_known, num_past), self._longest)
        shape = tf.stack([tf.size(length), tf.cast(tf.maximum(tf.reduce_max(length), 1), tf.int32)])  # [B, H]
        given_at = _last(is_known, length, shape)
        first = start + num_past - length
        stored_at = self._stored_at(first, tf.where(is_given, tf.zeros_like(length), length), shape[1])

        def picked(values, stored, fill):
            given_values = tf.gather(tf.pad(values, [[0, 0], [0, 1]], constant_values=fill), given_at, batch_dims=1)
            return tf.where(is_given[:, None], given_values, stored)

        items = picked(given, tf.gather(self._items, stored_at), -1)
        events = picked(history_events, tf.gather(self._event_names, tf.gather(self._events, stored_at)), "")
        age_s = picked(history_age_s, tf.gather(self._age_s, stored_at) + later_s, 0.0)
        age_s = tf.where(tf.math.is_finite(age_s), tf.maximum(age_s, 0.0), 0.0)
        return History(items, events, age_s, tf.concat([given, tf.gather(self._items, seen_at)], 1))

    def _stored_at(self, first, length, width):
        """Rows of so many interactions from a first one on, int64 [B, width], the row of none beyond. Both int64
        [B]."""
        column = tf.range(tf.cast(width, tf.int64))[None]
        return tf.where(column < length[:, None], first[:, None] + column, self._num_stored)


def _last(is_known, length, shape):
    """Columns of the last so many known interactions, oldest first: int32 of a shape [B, H], L beyond.

    is_known: bool [B, L]. length: int64 [B].
    """
    later = tf.cumsum(tf.cast(is_known, tf.int64), 1, exclusive=True, reverse=True)  # known ones
    place = length[:, None] - 1 - later
    found = tf.where(is_known & (place >= 0))  # [S, 2]
    places = tf.stack([found[:, 0], tf.gather_nd(place, found)], 1)
    beyond = tf.fill(shape, tf.shape(is_known)[1])
    return tf.tensor_scatter_nd_update(beyond, places, tf.cast(found[:, 1], tf.int32))


def _fixed(values, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.constant(values, dtype), trainable=False)
