"""Converts REST's JSON to tensors and back.

JSON types are strict; floats are rounded to the nearest value of their dtype.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode

from serving.model_server.errors import ServingError, invalid
from serving.model_server.tensors import MAX_RANK

_INTEGERS = {tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64}
_FLOATS = {tf.float32, tf.float64}
_SHORTEST_DIGITS = {tf.float16, tf.float32}
# json.loads makes inf of 1e999, too; these are the two that were written out.
_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}
_CONSTANTS = {"NaN": math.nan, **_INFINITIES}


def parse(body: bytes) -> dict[str, Any]:
    """The request's JSON object; NaN, Infinity and -Infinity are bare words.

    Raises ServingError (INVALID_ARGUMENT) saying where it stops being JSON.
    """
    try:
        request = json.loads(body.decode("utf-8-sig"), parse_constant=_CONSTANTS.__getitem__)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise invalid(f"JSON Parse error: the request is a {_kind(request)}, expected an object")
    return request


def rows(instances: Any, inputs: Mapping[str, tf.DType]) -> dict[str, tf.Tensor]:
    """The row format's tensors: `instances` is a non-empty list with an example each, all of one shape.

    Raises ServingError (INVALID_ARGUMENT) naming the row and the input.
    """
    if not isinstance(instances, list):
        raise invalid(f"'instances' is a {_kind(instances)}, expected a list")
    if not instances:
        raise invalid("No values in 'instances' array")
    if not _is_named(instances[0]):
        if len(inputs) > 1:
            raise invalid(
                "'instances' is a plain list, but the signature has several inputs: "
                f"expected objects with {sorted(inputs)}"
            )
        ((name, dtype),) = inputs.items()
        for row, instance in enumerate(instances):
            if _is_named(instance):
                raise invalid(f"'instances' element {row} is an object, but the first one is a value")
        return {name: to_tensor(instances, dtype, name)}
    for row, instance in enumerate(instances):
        if not _is_named(instance):
            raise invalid(f"'instances' element {row} is a {_kind(instance)}, but the first one is an object")
        if instance.keys() != inputs.keys():
            missing, unknown = sorted(inputs.keys() - instance.keys()), sorted(instance.keys() - inputs.keys())
            raise invalid(
                f"'instances' element {row}: missing: {missing}, not in the signature: {unknown}, "
                f"expected: {sorted(inputs)}"
            )
    return {name: to_tensor([instance[name] for instance in instances], dtype, name) for name, dtype in inputs.items()}


def columns(values: Any, inputs: Mapping[str, tf.DType]) -> dict[str, tf.Tensor]:
    """The column format's tensors: a value for the only input, or an object of names; other names are ignored.

    Raises ServingError (INVALID_ARGUMENT) naming the input.
    """
    if not _is_named(values):
        if len(inputs) > 1:
            raise invalid(
                "'inputs' is a plain value, but the signature has several inputs: "
                f"expected an object with {sorted(inputs)}"
            )
        ((name, dtype),) = inputs.items()
        return {name: to_tensor(values, dtype, name)}
    missing = sorted(inputs.keys() - values.keys())
    if missing:
        raise invalid(f"Missing named input in 'inputs' object: {', '.join(missing)}")
    return {name: to_tensor(values[name], dtype, name) for name, dtype in inputs.items()}


def to_tensor(value: Any, dtype: tf.DType, name: str) -> tf.Tensor:
    """A nested list (or one value) as a tensor. name: the input's, for messages.

    Raises ServingError: INVALID_ARGUMENT for ragged lists or another JSON type, UNIMPLEMENTED for a dtype that JSON
    cannot carry.
    """
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if any(type(part) is not list or len(part) != size for part in level):
            raise invalid(
                f"input {name!r}: lists at depth {len(shape)} are not all of the same size ({size} as in the first one)"
            )
        shape.append(size)
        level = list(chain.from_iterable(level))
    if len(shape) > MAX_RANK:
        raise invalid(f"input {name!r}: lists are nested {len(shape)} deep, expected {MAX_RANK} at most")
    if any(type(element) is list for element in level):
        raise invalid(f"input {name!r}: a list stands beside a value at depth {len(shape)}")
    return tf.constant(_flat(level, dtype, name).reshape(shape), dtype)


def from_outputs_rows(outputs: Mapping[str, tf.Tensor]) -> list[Any]:
    """`predictions`: an entry for each row, a value where there is one output, else an object.

    Raises ServingError (INVALID_ARGUMENT) where the outputs do not agree on the number of rows.
    """
    sizes = {name: tensor.shape[0] if tensor.shape.rank else None for name, tensor in outputs.items()}
    for name, size in sizes.items():
        if size is None:
            raise invalid(f"output {name!r} is a scalar, so it has no rows; ask with 'inputs' instead of 'instances'")
    if len(set(sizes.values())) > 1:
        raise invalid(f"the outputs have different numbers of rows: {sizes}; ask with 'inputs' instead of 'instances'")
    values = {name: from_tensor(tensor, name) for name, tensor in outputs.items()}
    if len(values) == 1:
        return next(iter(values.values()))
    return [dict(zip(values, row)) for row in zip(*values.values())]


def from_outputs_columns(outputs: Mapping[str, tf.Tensor]) -> Any:
    """`outputs`: a value where there is one output, else an object."""
    values = {name: from_tensor(tensor, name) for name, tensor in outputs.items()}
    return next(iter(values.values())) if len(values) == 1 else values


def from_tensor(tensor: tf.Tensor, name: str) -> Any:
    """Nested lists of the tensor's values; strings as text, or as base64 where the output's name ends in `_bytes`.

    Raises ServingError (INVALID_ARGUMENT) for strings that are not UTF-8 text and dtypes that JSON cannot carry.
    """
    array = np.asarray(tensor.numpy())
    if tensor.dtype == tf.string:
        write: Callable[[bytes], Any] = _base64 if name.endswith("_bytes") else bytes.decode
        try:
            flat: list[Any] = [write(element) for element in array.ravel().tolist()]
        except UnicodeDecodeError as error:
            raise invalid(
                f"output {name!r} holds bytes that are not UTF-8 text; only outputs named *_bytes are sent as base64"
            ) from error
    elif tensor.dtype in _SHORTEST_DIGITS:
        flat = shortest(array)
    elif tensor.dtype in _INTEGERS or tensor.dtype in (tf.float64, tf.bool, tf.uint16):
        return array.tolist()
    else:
        raise invalid(f"output {name!r}: {tensor.dtype.name} cannot be written as JSON")
    nested = np.empty(len(flat), dtype=object)
    nested[:] = flat
    return nested.reshape(array.shape).tolist()


def shortest(array: np.ndarray) -> list[float]:
    """Flat Python floats that print with the digits of the narrow type: 0.2 and not 0.20000000298023224."""
    return [float(text) for text in array.ravel().astype("U").tolist()]


def dump(answer: Any) -> bytes:
    """JSON as the server sends it: text is not escaped, non-finite numbers are bare words."""
    return json.dumps(answer, ensure_ascii=False).encode()


def as_float(value: float, where: str) -> float:
    """`value`, unless it is an infinity that only a number too big for a float has become."""
    if math.isinf(value) and not any(value is written for written in _INFINITIES.values()):
        raise invalid(f"{where}: a number is too big for a float")
    return value


def decode_base64(value: Any, where: str) -> bytes:
    """The bytes of a `{"b64": text}`: standard alphabet, padding optional. Raises ServingError (INVALID_ARGUMENT)."""
    if not is_base64(value):
        raise invalid(
            f"{where}: got {_kind(value)}, expected text or an object with the one key 'b64' and text as its value"
        )
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{where}: Unable to base64 decode: {error}") from error


def is_base64(value: Any) -> bool:
    """Whether a JSON value is a `{"b64": text}`."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def encode_text(text: str, where: str) -> bytes:
    """UTF-8 bytes. Raises ServingError (INVALID_ARGUMENT) for a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{where}: {text!r} is not text: {error.reason}") from error


def _flat(values: list[Any], dtype: tf.DType, name: str) -> np.ndarray:
    kinds = set(map(type, values))
    where = f"input {name!r}"
    if dtype == tf.string:
        array = np.empty(len(values), dtype=object)
        array[:] = [
            encode_text(value, where) if type(value) is str else decode_base64(value, where) for value in values
        ]
        return array
    if dtype == tf.bool:
        _check_kinds(values, kinds, {bool}, dtype, where)
        return np.array(values, dtype=np.bool_)
    if dtype in _INTEGERS:
        _check_kinds(values, kinds, {int}, dtype, where)
        try:
            array = np.array(values, dtype=object if dtype == tf.uint64 else np.int64)
            if values and not (dtype.min <= min(values) and max(values) <= dtype.max):
                raise OverflowError
        except OverflowError as error:
            raise invalid(
                f"{where}: a number is out of the range of {dtype.name} ({dtype.min} to {dtype.max})"
            ) from error
        return array.astype(dtype.as_numpy_dtype)
    if dtype in _FLOATS:
        _check_kinds(values, kinds, {int, float}, dtype, where)
        return _flat_floats(values, dtype, where)
    raise ServingError(StatusCode.UNIMPLEMENTED, f"{where}: JSON values cannot become {dtype.name}")


def _flat_floats(values: list[Any], dtype: tf.DType, where: str) -> np.ndarray:
    """Rounded as C++ does: beyond float32's range to infinity, below its smallest to zero, else to the nearest."""
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise invalid(f"{where}: a number is too big for a float") from error
    for index in np.flatnonzero(np.isinf(array)):
        as_float(values[index], where)
    with np.errstate(over="ignore"):
        return array.astype(dtype.as_numpy_dtype)


def _check_kinds(values: list[Any], kinds: set[type], expected: set[type], dtype: tf.DType, where: str) -> None:
    if not kinds <= expected:
        wrong = next(value for value in values if type(value) not in expected)
        raise invalid(f"{where}: JSON Value: {shown(wrong)} Type: {_kind(wrong)} is not of expected type: {dtype.name}")


def shown(value: Any) -> str:
    """A JSON value as it stands in a message: short, however long or deeply nested it is."""
    return reprlib.repr(value) if isinstance(value, (dict, list)) else json.dumps(value)[:100]


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _base64(element: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(element).decode()}


def _kind(value: Any) -> str:
    names = {dict: "Object", list: "Array", str: "String", bool: "Boolean", type(None): "Null"}
    return names.get(type(value), "Number")
