"""Validation of requests: one assertion in the graph for each kind of request, whose message names the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from components.contract import BOTH, VIEWS
from serving.config import MAX_K
from serving.online.requests import ExplainRequest, RecommendRequest, SimilarRequest


class _Check(NamedTuple):
    """What must hold, and what is said where it does not."""

    holds: tf.Tensor  # bool []
    message: str


def of_recommend(request: RecommendRequest, num_objectives: int) -> tf.Operation:
    """What `recommend` asks of its inputs beside those of the history."""
    batch = tf.shape(request.user_id)[0]
    return _assertion(
        [
            *_of_list(request, batch),
            *_of_weights(request.objective_weights, num_objectives, batch),
            *(_value_for_each(name, getattr(request, name), batch) for name in ("diversity", "explore_share", "seed")),
            *(_is_share(name, getattr(request, name)) for name in ("diversity", "explore_share")),
        ]
    )


def of_similar(request: SimilarRequest) -> tf.Operation:
    """What `similar` asks of its inputs."""
    batch, count = tf.shape(request.item_id)[0], tf.shape(request.by)[0]
    known = ("", BOTH, *VIEWS)
    return _assertion(
        [
            *_of_list(request, batch),
            _Check((count == batch) | (count == 1), "by must have one value for each request, or one for all"),
            _Check(
                tf.reduce_all(tf.reduce_any(request.by[:, None] == tf.constant(known), 1)),
                f"by must be one of {', '.join(known[1:])}",
            ),
        ]
    )


def of_explain(request: ExplainRequest, num_objectives: int) -> tf.Operation:
    """What `explain` asks of its inputs beside those of the history."""
    batch = tf.shape(request.user_id)[0]
    return _assertion(
        [
            _row_for_each("item_ids", request.item_ids, batch),
            *_of_weights(request.objective_weights, num_objectives, batch),
            _value_for_each("time_s", request.time_s, batch),
        ]
    )


def of_history(user_id, history_ids, history_events, history_age_s) -> tf.Operation:
    """What a history given with a request has to be."""
    shape = tf.shape(history_ids)

    def is_like_ids(values):
        return tf.reduce_all(tf.shape(values) == shape)

    return _assertion(
        [
            _row_for_each("history_ids", history_ids, tf.shape(user_id)[0]),
            _Check(is_like_ids(history_events), "history_events must have the shape of history_ids"),
            _Check(is_like_ids(history_age_s), "history_age_s must have the shape of history_ids"),
        ]
    )


def _assertion(checks: Sequence[_Check]) -> tf.Operation:
    """One assertion of all: an op each costs a request more than what it checks."""
    holds = tf.stack([check.holds for check in checks])
    first = tf.argmin(tf.cast(holds, tf.int32))
    return tf.debugging.Assert(tf.reduce_all(holds), [tf.gather([check.message for check in checks], first)])


def _of_list(request: RecommendRequest | SimilarRequest, batch) -> list[_Check]:
    """Of the length of a list and the rules for it."""
    values = ("k", "domain", "max_per_creator", "max_item_age_s", "time_s")
    return [
        _Check(tf.reduce_all(request.k >= 1), "k must be at least 1"),
        _Check(tf.reduce_all(request.k <= MAX_K), f"k must be at most {MAX_K}"),
        *(_value_for_each(name, getattr(request, name), batch) for name in values),
        *(_row_for_each(name, getattr(request, name), batch) for name in ("exclude_ids", "allow_ids")),
        _Check(tf.reduce_all(request.max_per_creator >= -1), "max_per_creator must not be below -1"),
        _Check(tf.reduce_all(request.max_item_age_s >= 0), "max_item_age_s must not be negative"),
    ]


def _of_weights(weights, num_objectives: int, batch) -> list[_Check]:
    columns = tf.shape(weights)[1]
    said = f"objective_weights must have {num_objectives} columns, or none"
    return [
        _row_for_each("objective_weights", weights, batch),
        _Check((columns == 0) | (columns == num_objectives), said),
        _Check(tf.reduce_all(tf.math.is_finite(weights)), "objective_weights must be finite"),
    ]


def _value_for_each(name: str, values, batch) -> _Check:
    return _Check(tf.shape(values)[0] == batch, f"{name} must have one value for each request")


def _row_for_each(name: str, values, batch) -> _Check:
    return _Check(tf.shape(values)[0] == batch, f"{name} must have a row for each user_id")


def _is_share(name: str, values) -> _Check:
    is_right = (values == -1) | ((values >= 0) & (values <= 1))
    return _Check(tf.reduce_all(is_right), f"{name} must be from 0 to 1, or -1")
