"""Messages of TF Serving's gRPC interface, built from descriptors: the published stubs import TensorFlow, a gateway
must not.

Only the fields that the gateway reads or writes are declared; protocol buffers skip the others. Field numbers are those
of the published `tensorflow/core/framework` and `tensorflow_serving/apis` definitions, so both sides agree on the wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "zhiyin.gateway"
_FILE = descriptor_pb2.FileDescriptorProto(name="zhiyin/gateway.proto", package=_PACKAGE, syntax="proto3")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

FLOAT, DOUBLE, INT32, STRING, INT64, BOOL = 1, 2, 3, 7, 9, 10  # DataType
AVAILABLE = 30  # ModelVersionStatus.State
_NUMPY = {FLOAT: np.float32, DOUBLE: np.float64, INT32: np.int32, INT64: np.int64, BOOL: np.bool_}
_VALUES_OF = {
    FLOAT: "float_val",
    DOUBLE: "double_val",
    INT32: "int_val",
    STRING: "string_val",
    INT64: "int64_val",
    BOOL: "bool_val",
}
_DTYPES = {np.dtype(kind): number for number, kind in _NUMPY.items()}


class _F(NamedTuple):
    """A field: its number, its scalar type or the name of its message, and whether it repeats."""

    number: int
    kind: int | str
    repeated: bool = False


def _message(name: str, fields: Mapping[str, _F], maps: Mapping[str, tuple[int, str]] | None = None) -> None:
    """Declare a message. maps: field -> (number, name of the value's message), keyed by string."""
    message = _FILE.message_type.add(name=name)
    for field, (number, kind, repeated) in fields.items():
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        _add(message, field, number, kind, label)
    for field, (number, value) in (maps or {}).items():
        entry = message.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, _Field.TYPE_STRING, _Field.LABEL_OPTIONAL)
        _add(entry, "value", 2, value, _Field.LABEL_OPTIONAL)
        _add(message, field, number, f"{name}.{entry.name}", _Field.LABEL_REPEATED)


def _add(message: Any, name: str, number: int, kind: int | str, label: Any) -> None:
    field = message.field.add(name=name, number=number, label=label)
    if isinstance(kind, str):
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = kind


_STRING, _INT64, _INT32, _BYTES = _Field.TYPE_STRING, _Field.TYPE_INT64, _Field.TYPE_INT32, _Field.TYPE_BYTES

_message("Int64Value", {"value": _F(1, _INT64)})
_message("Dim", {"size": _F(1, _INT64), "name": _F(2, _STRING)})
_message("TensorShape", {"dim": _F(2, "Dim", True), "unknown_rank": _F(3, _Field.TYPE_BOOL)})
_message(
    "Tensor",
    {
        "dtype": _F(1, _INT32),
        "tensor_shape": _F(2, "TensorShape"),
        "tensor_content": _F(4, _BYTES),
        "float_val": _F(5, _Field.TYPE_FLOAT, True),
        "double_val": _F(6, _Field.TYPE_DOUBLE, True),
        "int_val": _F(7, _INT32, True),
        "string_val": _F(8, _BYTES, True),
        "int64_val": _F(10, _INT64, True),
        "bool_val": _F(11, _Field.TYPE_BOOL, True),
    },
)
_message(
    "ModelSpec",
    {
        "name": _F(1, _STRING),
        "version": _F(2, "Int64Value"),
        "signature_name": _F(3, _STRING),
        "version_label": _F(4, _STRING),
    },
)
_message("PredictRequest", {"model_spec": _F(1, "ModelSpec")}, {"inputs": (2, "Tensor")})
_message("PredictResponse", {"model_spec": _F(2, "ModelSpec")}, {"outputs": (1, "Tensor")})
_message("GetModelStatusRequest", {"model_spec": _F(1, "ModelSpec")})
_message("ModelVersionStatus", {"version": _F(1, _INT64), "state": _F(2, _INT32)})
_message("GetModelStatusResponse", {"model_version_status": _F(1, "ModelVersionStatus", True)})
_message("GetModelMetadataRequest", {"model_spec": _F(1, "ModelSpec"), "metadata_field": _F(2, _STRING, True)})
_message("Any", {"type_url": _F(1, _STRING), "value": _F(2, _BYTES)})
_message("GetModelMetadataResponse", {"model_spec": _F(1, "ModelSpec")}, {"metadata": (2, "Any")})
_message("TensorInfo", {"name": _F(1, _STRING), "dtype": _F(2, _INT32), "tensor_shape": _F(3, "TensorShape")})
_message("SignatureDef", {}, {"inputs": (1, "TensorInfo"), "outputs": (2, "TensorInfo")})
_message("SignatureDefMap", {}, {"signature_def": (1, "SignatureDef")})

_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_FILE)


def _class(name: str) -> Any:
    return message_factory.MessageFactory(_POOL).GetPrototype(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


PredictRequest, PredictResponse = _class("PredictRequest"), _class("PredictResponse")
GetModelStatusRequest, GetModelStatusResponse = _class("GetModelStatusRequest"), _class("GetModelStatusResponse")
GetModelMetadataRequest, GetModelMetadataResponse = (
    _class("GetModelMetadataRequest"),
    _class("GetModelMetadataResponse"),
)
SignatureDefMap = _class("SignatureDefMap")


class TensorSpec(NamedTuple):
    """What a signature says of an input: its DataType and its shape, -1 where a dimension is free."""

    dtype: int
    shape: tuple[int, ...]


def set_tensor(tensor: Any, values: np.ndarray) -> None:
    """Write an array (bytes objects for strings) into a Tensor message."""
    for size in values.shape:
        tensor.tensor_shape.dim.add().size = size
    if values.dtype == object:
        tensor.dtype = STRING
        tensor.string_val.extend(values.ravel().tolist())
    else:
        tensor.dtype = _DTYPES[values.dtype]
        tensor.tensor_content = np.ascontiguousarray(values).tobytes()


def array_of(tensor: Any) -> np.ndarray:
    """The array in a Tensor message; strings as bytes objects.

    Raises ValueError for a type that the gateway does not read.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype not in _VALUES_OF:
        raise ValueError(f"a tensor of type {tensor.dtype} came from the model server, which the gateway does not read")
    if tensor.tensor_content and tensor.dtype != STRING:
        return np.frombuffer(tensor.tensor_content, _NUMPY[tensor.dtype]).reshape(shape)
    values = list(getattr(tensor, _VALUES_OF[tensor.dtype]))
    kind = object if tensor.dtype == STRING else _NUMPY[tensor.dtype]
    array = np.array(values, kind)
    size = math.prod(shape)
    if len(values) < size:  # the last value stands for all that follow; none at all for zeros
        fill = values[-1] if values else (b"" if kind is object else 0)
        array = np.concatenate([array, np.full(size - len(values), fill, kind)])
    return array.reshape(shape)


def predict_request(model: str, signature: str, inputs: Mapping[str, np.ndarray]) -> Any:
    """A PredictRequest for one signature of a model's newest version."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        set_tensor(request.inputs[name], values)
    return request


def signature_inputs(response: Any) -> dict[str, dict[str, TensorSpec]]:
    """The inputs of every signature in a GetModelMetadataResponse."""
    signatures = SignatureDefMap.FromString(response.metadata["signature_def"].value)
    return {
        name: {
            key: TensorSpec(info.dtype, tuple(dim.size for dim in info.tensor_shape.dim))
            for key, info in signature.inputs.items()
        }
        for name, signature in signatures.signature_def.items()
    }
