"""Conversions on their own, against TensorFlow's and NumPy's for random tensors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.model_server import json_tensors, tensors
from serving.model_server.errors import ServingError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
NUMERIC = [
    np.float32,
    np.float64,
    np.float16,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.int64,
    np.uint32,
    np.uint64,
    np.bool_,
]
NUMERIC += [np.complex64, np.complex128]
ARRAYS = st.sampled_from(NUMERIC).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
JSON_DTYPES = [np.float32, np.float64, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint32, np.uint64, np.bool_]


@settings(max_examples=150, deadline=None)
@given(ARRAYS)
def test_any_tensor_proto_becomes_its_tensor(array):
    for proto in (tf.make_tensor_proto(array), tensors.to_proto(tf.constant(array))):
        np.testing.assert_array_equal(tensors.to_tensor(proto, "x").numpy(), array)


@pytest.mark.parametrize("dtype", [*NUMERIC, tf.bfloat16.as_numpy_dtype])
def test_a_value_for_each_element_is_read_however_many_and_fewer_are_refused(dtype, monkeypatch):
    monkeypatch.setattr(tensors, "MAX_FILLED_ELEMENTS", 8)
    array = np.arange(9).astype(dtype)
    proto = tensors.to_proto(tf.constant(array))
    np.testing.assert_array_equal(tensors.to_tensor(proto, "x").numpy(), array)
    proto.tensor_shape.dim[0].size = 10
    with pytest.raises(ServingError, match="claims 10 elements"):
        tensors.to_tensor(proto, "x")


@settings(max_examples=150, deadline=None)
@given(ARRAYS)
def test_any_tensor_becomes_a_proto_that_tensorflow_reads(array):
    proto = tensors.to_proto(tf.constant(array))
    assert not proto.tensor_content
    np.testing.assert_array_equal(tf.io.parse_tensor(proto.SerializeToString(), array.dtype).numpy(), array)
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=5)))
def test_strings_keep_every_byte_both_ways(array):
    tensor = tf.constant(array, tf.string)
    proto = tensors.to_proto(tensor)
    assert list(proto.string_val) == array.ravel().tolist()
    assert tf.reduce_all(tensors.to_tensor(proto, "x") == tensor)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(JSON_DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
@example(np.array(np.finfo(np.float32).max))
def test_json_round_trips_exactly(array):
    tensor = tf.constant(array)
    printed = json_tensors.dump({"v": json_tensors.from_tensor(tensor, "v")})
    value = json_tensors.parse(printed)["v"]
    shape_is_told = 0 not in array.shape[:-1]  # lists that hold no list do not say how long it would be
    if array.dtype in (np.float32, np.float64):
        assert np.shape(value) == array.shape or not shape_is_told
    back = json_tensors.to_tensor(value, tensor.dtype, "v")
    assert back.dtype == tensor.dtype
    np.testing.assert_array_equal(back.numpy().ravel(), array.ravel())
    assert back.shape == array.shape or not shape_is_told


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        object,
        SHAPES.filter(lambda shape: 0 not in shape),
        elements=st.text(max_size=4).filter(lambda s: s.isprintable()),
    )
)
def test_json_text_round_trips_exactly(array):
    tensor = tf.constant(np.vectorize(str.encode, otypes=[object])(array), tf.string)
    assert json.loads(json_tensors.dump(json_tensors.from_tensor(tensor, "v"))) == array.tolist()
    assert json_tensors.from_tensor(json_tensors.to_tensor(array.tolist(), tf.string, "v"), "v") == array.tolist()


@pytest.mark.parametrize("value", [[[1], 2], [1, [2]], [[1, 2], [3]], [[[1]], [2]], [[], [1]], [[1], []], [[1], {}]])
def test_ragged_lists_are_refused(value):
    with pytest.raises(ServingError, match="'v'"):
        json_tensors.to_tensor(value, tf.int32, "v")


def test_a_sent_infinity_is_no_overflow():
    assert json_tensors.to_tensor(
        json_tensors.parse(b'{"v": [Infinity, -Infinity]}')["v"], tf.float64, "v"
    ).numpy().tolist() == [
        np.inf,
        -np.inf,
    ]
    for text in (b"1e999", b"-1e999"):
        with pytest.raises(ServingError, match="too big"):
            json_tensors.to_tensor(json_tensors.parse(b'{"v": [Infinity, ' + text + b"]}")["v"], tf.float64, "v")
