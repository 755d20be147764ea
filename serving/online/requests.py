"""The inputs of the served signatures, by name, type and meaning. B requests; every one stands on its own.

A value that says nothing is "", 0 or an empty list: what the operator configured (`serving.defaults`), or no limit,
holds then.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_STRINGS, _STRING_LISTS = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
_FLOATS, _FLOAT_LISTS = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None, None], tf.float32)
_INTS, _TIMES = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)


class RecommendRequest(NamedTuple):
    """Inputs of `recommend`."""

    user_id: tf.Tensor  # string [B], "" or unknown = a new user
    history_ids: (
        tf.Tensor
    )  # string [B, L], oldest first; "" and unknown ids do not count; without a known one: what is stored
    history_events: tf.Tensor  # string [B, L], "" = unknown
    history_age_s: tf.Tensor  # float32 [B, L], seconds ago, 0 = unknown
    exclude_ids: tf.Tensor  # string [B, num_excluded], "" and unknown ids do not count
    allow_ids: tf.Tensor  # string [B, num_allowed], nothing else may be shown; a row of "" = anything
    domain: tf.Tensor  # string [B], "" = any
    k: tf.Tensor  # int32 [B], length of the list, 1 to MAX_K of `serving.config`
    objective_weights: (
        tf.Tensor
    )  # float32 [B, O] or [B, 0], in the order of the kinds' names; a row of zeros = the configured ones
    diversity: tf.Tensor  # float32 [B], 0 to 1, weight of novelty beside relevance; 0 = the configured one, -1 = none
    max_per_creator: tf.Tensor  # int32 [B], 0 = the configured one, -1 = any number
    max_item_age_s: (
        tf.Tensor
    )  # int64 [B], only what was published in so many seconds before time_s; 0 = anything, also undated
    explore_share: (
        tf.Tensor
    )  # float32 [B], 0 to 1, chance of a position to go to any candidate; 0 = the configured one, -1 = none
    seed: tf.Tensor  # int32 [B], of that chance; 0 = one of the person and the time
    time_s: (
        tf.Tensor
    )  # int64 [B], seconds since 1970: what is not out yet is not shown; 0 = the time of the last known event

    @classmethod
    def of_users(cls, user_id: tf.Tensor, k: tf.Tensor) -> RecommendRequest:
        """Requests of users known from training by their id alone; all else says nothing."""
        batch = tf.shape(user_id)[0]
        given = {"user_id": user_id, "k": k}
        silent = {
            name: tf.zeros([batch, 0] if spec.shape.rank == 2 else [batch], spec.dtype)
            for name, spec in RECOMMEND_SPECS._asdict().items()
            if name not in given
        }
        return cls(**given, **silent)


class SimilarRequest(NamedTuple):
    """Inputs of `similar`: an item, and the rules of `recommend`."""

    item_id: tf.Tensor  # string [B]; an unknown one has no list
    by: tf.Tensor  # string [B], or [1] for all: content, behaviour or both; "" = both
    exclude_ids: tf.Tensor
    allow_ids: tf.Tensor
    domain: tf.Tensor
    k: tf.Tensor
    max_per_creator: tf.Tensor
    max_item_age_s: tf.Tensor
    time_s: tf.Tensor


class ExplainRequest(NamedTuple):
    """Inputs of `explain`: a user as in `recommend`, and some items."""

    user_id: tf.Tensor
    history_ids: tf.Tensor
    history_events: tf.Tensor
    history_age_s: tf.Tensor
    item_ids: tf.Tensor  # string [B, M]
    objective_weights: tf.Tensor
    time_s: tf.Tensor


class UserRequest(NamedTuple):
    """Inputs of `encode_user`: a user as in `recommend`."""

    user_id: tf.Tensor
    history_ids: tf.Tensor
    history_events: tf.Tensor
    history_age_s: tf.Tensor


RECOMMEND_SPECS = RecommendRequest(
    user_id=_STRINGS,
    history_ids=_STRING_LISTS,
    history_events=_STRING_LISTS,
    history_age_s=_FLOAT_LISTS,
    exclude_ids=_STRING_LISTS,
    allow_ids=_STRING_LISTS,
    domain=_STRINGS,
    k=_INTS,
    objective_weights=_FLOAT_LISTS,
    diversity=_FLOATS,
    max_per_creator=_INTS,
    max_item_age_s=_TIMES,
    explore_share=_FLOATS,
    seed=_INTS,
    time_s=_TIMES,
)
_BY_NAME = RECOMMEND_SPECS._asdict() | {"item_id": _STRINGS, "by": _STRINGS, "item_ids": _STRING_LISTS}
SIMILAR_SPECS = SimilarRequest(**{name: _BY_NAME[name] for name in SimilarRequest._fields})
EXPLAIN_SPECS = ExplainRequest(**{name: _BY_NAME[name] for name in ExplainRequest._fields})
USER_SPECS = UserRequest(**{name: _BY_NAME[name] for name in UserRequest._fields})


def or_default(values: tf.Tensor, default: float) -> tf.Tensor:
    """Values of requests, the operator's default where 0 says nothing, 0 where -1 says none."""
    return tf.where(values == 0, tf.cast(default, values.dtype), tf.maximum(values, 0))
