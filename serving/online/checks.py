"""Validation of requests: assertions in the graph, whose messages name the input."""

from __future__ import annotations

import tensorflow as tf

from serving.online.requests import ExplainRequest, RecommendRequest, SimilarRequest

MAX_K = 10_000  # a longer list is a mistake in the request


def of_recommend(request: RecommendRequest, num_objectives: int) -> list[tf.Operation]:
    """What `recommend` asks of its inputs beside those of the history."""
    batch = tf.shape(request.user_id)[0]
    return [
        *_of_list(request, batch),
        *_of_weights(request.objective_weights, num_objectives, batch),
        *(_value_for_each(name, getattr(request, name), batch) for name in ("diversity", "explore_share", "seed")),
        *(_is_share(name, getattr(request, name)) for name in ("diversity", "explore_share")),
    ]


def of_similar(request: SimilarRequest) -> list[tf.Operation]:
    """What `similar` asks of its inputs."""
    return _of_list(request, tf.shape(request.item_id)[0])


def of_explain(request: ExplainRequest, num_objectives: int) -> list[tf.Operation]:
    """What `explain` asks of its inputs beside those of the history."""
    batch = tf.shape(request.user_id)[0]
    return [
        _row_for_each("item_ids", request.item_ids, batch),
        *_of_weights(request.objective_weights, num_objectives, batch),
        _value_for_each("time_s", request.time_s, batch),
    ]


def _of_list(request: RecommendRequest | SimilarRequest, batch):
    """Of the length of a list and the rules for it."""
    values = ("k", "domain", "max_per_creator", "max_item_age_s", "time_s")
    return [
        tf.debugging.assert_positive(request.k, "k must be at least 1"),
        tf.debugging.assert_less_equal(request.k, MAX_K, f"k must be at most {MAX_K}"),
        *(_value_for_each(name, getattr(request, name), batch) for name in values),
        *(_row_for_each(name, getattr(request, name), batch) for name in ("exclude_ids", "allow_ids")),
        tf.debugging.assert_greater_equal(request.max_per_creator, -1, "max_per_creator must not be below -1"),
        tf.debugging.assert_non_negative(request.max_item_age_s, "max_item_age_s must not be negative"),
    ]


def _of_weights(weights, num_objectives: int, batch):
    columns = tf.shape(weights)[1]
    said = f"objective_weights must have {num_objectives} columns, or none"
    return [
        _row_for_each("objective_weights", weights, batch),
        tf.debugging.Assert((columns == 0) | (columns == num_objectives), [said]),
        tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(weights)), ["objective_weights must be finite"]),
    ]


def _value_for_each(name, values, batch):
    return tf.debugging.assert_equal(tf.shape(values)[0], batch, f"{name} must have one value for each request")


def _row_for_each(name, values, batch):
    return tf.debugging.assert_equal(tf.shape(values)[0], batch, f"{name} must have a row for each user_id")


def _is_share(name, values):
    is_right = (values == -1) | ((values >= 0) & (values <= 1))
    return tf.debugging.Assert(tf.reduce_all(is_right), [f"{name} must be from 0 to 1, or -1"])
