"""Converts TensorProtos to tensors and back, with TF Serving's C++ semantics and few elements touched in Python."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.python.framework import ops

from serving.model_server.errors import invalid

MAX_FILLED_ELEMENTS = 1 << 22  # a proto with fewer values than elements repeats its last one: a larger claim is refused
MAX_RANK = 32  # NumPy's
MAX_EXTENT = 1 << 40  # of the sizes that are not 0: an empty tensor may have a shape that no array can have

# Where a dtype's values stand when they are not in tensor_content, and what they look like there.
_FIELDS = {
    types_pb2.DT_FLOAT: ("float_val", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64),
    types_pb2.DT_INT32: ("int_val", np.int32),
    types_pb2.DT_INT64: ("int64_val", np.int64),
    types_pb2.DT_BOOL: ("bool_val", np.bool_),
    types_pb2.DT_UINT32: ("uint32_val", np.uint32),
    types_pb2.DT_UINT64: ("uint64_val", np.uint64),
}
# Narrow types travel in a wider field; half and bfloat16 as their bits.
_WIDENED_FIELDS = {
    types_pb2.DT_INT8: ("int_val", np.int8),
    types_pb2.DT_UINT8: ("int_val", np.uint8),
    types_pb2.DT_INT16: ("int_val", np.int16),
    types_pb2.DT_UINT16: ("int_val", np.uint16),
    types_pb2.DT_HALF: ("half_val", np.uint16),
    types_pb2.DT_BFLOAT16: ("half_val", np.uint16),
}
# Complex numbers stand there as two values each.
_PAIRED_FIELDS = {types_pb2.DT_COMPLEX64: "scomplex_val", types_pb2.DT_COMPLEX128: "dcomplex_val"}
# Repeated floats are packed little-endian on the wire, just as NumPy holds them: (tag byte = field number << 3 | 2).
_PACKED_TAGS = {
    types_pb2.DT_FLOAT: TensorProto.FLOAT_VAL_FIELD_NUMBER << 3 | 2,
    types_pb2.DT_DOUBLE: TensorProto.DOUBLE_VAL_FIELD_NUMBER << 3 | 2,
    types_pb2.DT_COMPLEX64: TensorProto.SCOMPLEX_VAL_FIELD_NUMBER << 3 | 2,
    types_pb2.DT_COMPLEX128: TensorProto.DCOMPLEX_VAL_FIELD_NUMBER << 3 | 2,
}


def to_tensor(proto: TensorProto, name: str) -> tf.Tensor:
    """The tensor that `proto` describes, of its own dtype and shape. A short value field repeats its last value.

    name: the input's name, for messages.
    Raises ServingError (INVALID_ARGUMENT) where shape and values do not fit each other.
    """
    if proto.tensor_shape.unknown_rank:
        raise invalid(f"input {name!r}: a tensor of unknown rank holds no values")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if len(shape) > MAX_RANK:
        raise invalid(f"input {name!r}: got {len(shape)} dimensions, expected {MAX_RANK} at most")
    if any(size < 0 for size in shape):
        raise invalid(f"input {name!r}: got shape {shape}, expected sizes of 0 or more")
    if math.prod(size or 1 for size in shape) > MAX_EXTENT:
        raise invalid(f"input {name!r}: shape {shape} is larger than any message")
    num_elements = math.prod(shape)
    dtype = proto.dtype
    if dtype == types_pb2.DT_STRING and len(proto.string_val) == num_elements:
        values = np.empty(num_elements, dtype=object)
        values[:] = list(proto.string_val)
        return eager_tensor(values.reshape(shape), dtype)
    if dtype in _FIELDS:
        field, numpy_dtype = _FIELDS[dtype]
        content = proto.tensor_content
        if content:
            if len(content) != num_elements * np.dtype(numpy_dtype).itemsize:
                raise invalid(
                    f"input {name!r}: {len(content)} bytes of tensor_content do not fill shape {shape} "
                    f"of {numpy_dtype.__name__}"
                )
            return eager_tensor(np.frombuffer(content, numpy_dtype).reshape(shape), dtype)
        values = getattr(proto, field)
        if len(values) == num_elements:
            return eager_tensor(np.fromiter(values, numpy_dtype, num_elements).reshape(shape), dtype)
    return _parse(proto, name, shape, num_elements)


def eager_tensor(values: np.ndarray, dtype: int) -> tf.Tensor:
    """`tf.constant` of an array that has the dtype already, in a tenth of its time. dtype: of `types_pb2.DataType`."""
    return ops.EagerTensor(values, None, dtype)


def to_proto(tensor: tf.Tensor, as_content: bool = False) -> TensorProto:
    """`tensor` with its values in the typed field (float_val, string_val, ...), where simple clients look for them.

    as_content: put them into `tensor_content` instead, little-endian; strings stay in their field.
    Raises ServingError (INVALID_ARGUMENT) for a dtype that has no such field.
    """
    proto = TensorProto(dtype=tensor.dtype.as_datatype_enum)
    for size in tensor.shape:
        proto.tensor_shape.dim.add().size = size
    values = tensor.numpy()
    dtype = proto.dtype
    if as_content and (dtype in _PACKED_TAGS or dtype in _FIELDS or dtype in _WIDENED_FIELDS):
        proto.tensor_content = values.tobytes()
    elif dtype in _PACKED_TAGS:
        data = values.tobytes()
        if data:
            proto.MergeFromString(bytes([_PACKED_TAGS[dtype]]) + _varint(len(data)) + data)
    elif dtype == types_pb2.DT_STRING:
        proto.string_val.extend([values] if tensor.shape.rank == 0 else values.ravel().tolist())
    elif dtype in _FIELDS:
        getattr(proto, _FIELDS[dtype][0]).extend(np.ravel(values).tolist())
    elif dtype in _WIDENED_FIELDS:
        field, view = _WIDENED_FIELDS[dtype]
        getattr(proto, field).extend(np.ravel(values).view(view).tolist())
    else:
        raise invalid(f"an output of dtype {tensor.dtype.name} cannot be sent")
    return proto


def _parse(proto: TensorProto, name: str, shape: list[int], num_elements: int) -> tf.Tensor:
    """The rest (short fields, narrow types) through TensorFlow's own parser."""
    if num_elements > MAX_FILLED_ELEMENTS and max(len(proto.tensor_content), _num_values(proto)) < num_elements:
        raise invalid(f"input {name!r}: shape {shape} claims {num_elements} elements, far more than the values sent")
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.dtypes.as_dtype(proto.dtype))
    except (tf.errors.OpError, TypeError) as error:
        raise invalid(f"input {name!r}: the tensor cannot be parsed: {error}") from error


def _num_values(proto: TensorProto) -> int:
    """How many elements have a value in the field of the proto's dtype."""
    if proto.dtype in _PAIRED_FIELDS:
        return len(getattr(proto, _PAIRED_FIELDS[proto.dtype])) // 2
    field, _ = {**_FIELDS, **_WIDENED_FIELDS}.get(proto.dtype, ("string_val", None))
    return len(getattr(proto, field))


def _varint(value: int) -> bytes:
    """Protobuf's base-128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
