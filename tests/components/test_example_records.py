"""Examples that are put together of bytes are those that protobuf serializes."""

import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_records import ListColumn, serialized_lists, serialized_rows
from components.examples import bytes_feature, floats_feature, ints_feature

INTS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 127, 128, -1])
FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, math.nan, math.inf])
TEXTS = st.text(max_size=5) | st.sampled_from(["", "ü", "\U0001f600" * 40, "x" * 127, "x" * 128, "x" * 17_000])


def by_protobuf(features) -> bytes:
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def runs(lists) -> tuple[list, np.ndarray]:
    """The lists one after another, and where each begins."""
    starts = np.cumsum([0, *map(len, lists)])[:-1]
    return [value for values in lists for value in values], starts


@given(st.lists(st.tuples(st.lists(TEXTS, max_size=4), st.lists(FLOATS, max_size=40), st.lists(INTS, max_size=20))))
@settings(deadline=None, max_examples=200)
def test_lists_of_every_kind_and_length(examples) -> None:
    texts, floats, ints = zip(*examples) if examples else ((), (), ())
    values, starts = runs(texts)
    distinct = sorted(set(values))
    codes = np.array([distinct.index(value) for value in values], np.int64)
    columns = {"word": ListColumn.of_texts(distinct, codes, starts)}
    values, starts = runs(floats)
    columns["a number"] = ListColumn.of_floats(np.array(values, np.float64), starts)
    values, starts = runs(ints)
    columns["count" * 30] = ListColumn.of_ints(np.array(values, np.int64), starts)
    assert serialized_lists(columns) == [
        by_protobuf({"word": bytes_feature(one), "a number": floats_feature(two), "count" * 30: ints_feature(three)})
        for one, two, three in examples
    ]


@given(st.lists(st.tuples(st.none() | TEXTS, st.none() | FLOATS, st.none() | INTS)))
@settings(deadline=None, max_examples=200)
def test_rows_of_every_kind_with_absent_values(rows) -> None:
    texts, floats, ints = zip(*rows) if rows else ((), (), ())
    kinds = {"word": pa.string(), "a number": pa.float32(), "count": pa.int64()}
    made = {"word": bytes_feature, "a number": floats_feature, "count": ints_feature}
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in zip(kinds, (texts, floats, ints))})
    assert serialized_rows(table) == [
        by_protobuf({name: made[name]([value]) for name, value in zip(kinds, row) if value is not None}) for row in rows
    ]


@pytest.mark.parametrize("length", [0, 1, 120, 125, 128, 16_380, 16_384, 2_100_000])
def test_lengths_around_the_steps_of_their_own_length(length) -> None:
    (found,) = serialized_rows(pa.table({"word": ["x" * length]}))
    assert found == by_protobuf({"word": bytes_feature(["x" * length])})
