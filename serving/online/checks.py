"""What a request must be, as assertions in the graph that name the input. B requests, O objectives."""

from __future__ import annotations

import tensorflow as tf

MAX_K = 10_000  # a longer list is a mistake in the request, not a page


def of_k(k, domain, batch):
    """Of the length of the list, int32 [B], and the domain."""
    return [
        tf.debugging.assert_positive(k, "k must be at least 1"),
        tf.debugging.assert_less_equal(k, MAX_K, f"k must be at most {MAX_K}"),
        value_for_each("k", k, batch),
        value_for_each("domain", domain, batch),
    ]


def of_limits(max_per_creator, max_item_age_s, time_s, batch):
    """Of the cap of a creator, the age of an item, and the time of the request."""
    values = {"max_per_creator": max_per_creator, "max_item_age_s": max_item_age_s, "time_s": time_s}
    return [
        *(value_for_each(name, value, batch) for name, value in values.items()),
        tf.debugging.assert_non_negative(max_per_creator, "max_per_creator must not be negative"),
        tf.debugging.assert_non_negative(max_item_age_s, "max_item_age_s must not be negative"),
    ]


def value_for_each(name, values, batch):
    """One value a request."""
    return tf.debugging.assert_equal(tf.shape(values)[0], batch, f"{name} must have one value for each request")


def row_for_each(name, values, batch):
    """One row a request."""
    return tf.debugging.assert_equal(tf.shape(values)[0], batch, f"{name} must have a row for each user_id")


def is_share(name, values):
    """From 0 to 1."""
    return tf.debugging.Assert(tf.reduce_all((values >= 0) & (values <= 1)), [f"{name} must be from 0 to 1"])


def of_weights(weights, num_objectives: int, batch):
    """Of the weights of the objectives: float32 [B, O] or [B, 0]."""
    columns = tf.shape(weights)[1]
    said = f"objective_weights must have {num_objectives} columns, or none"
    return [
        row_for_each("objective_weights", weights, batch),
        tf.debugging.Assert((columns == 0) | (columns == num_objectives), [said]),
        tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(weights)), ["objective_weights must be finite"]),
    ]
