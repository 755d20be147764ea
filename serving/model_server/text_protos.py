"""Protocol buffers of TF Serving and gRPC that the published stubs leave out, and the reading of files in text form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from serving.model_server.errors import invalid

_Field = descriptor_pb2.FieldDescriptorProto
BOOL, INT64, STRING = _Field.TYPE_BOOL, _Field.TYPE_INT64, _Field.TYPE_STRING
_POOL = descriptor_pool.DescriptorPool()


def message_class(name: str, fields: Mapping[str, int | str], repeated: Collection[str] = ()) -> Any:
    """A proto3 message.

    fields: name -> scalar type, or the name of a message made before; numbered from 1 on, in their order.
    repeated: the names of those that are lists.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"zhiyin/{name}.proto", package="zhiyin.model_server", syntax="proto3"
    )
    message = file.message_type.add(name=name)
    needed = set()
    for number, (field, kind) in enumerate(fields.items(), 1):
        label = _Field.LABEL_REPEATED if field in repeated else _Field.LABEL_OPTIONAL
        one = message.field.add(name=field, number=number, label=label)
        if isinstance(kind, str):
            one.type, one.type_name = _Field.TYPE_MESSAGE, f".{file.package}.{kind}"
            needed.add(f"zhiyin/{kind}.proto")
        else:
            one.type = kind
    file.dependency.extend(sorted(needed))
    _POOL.Add(file)
    return message_factory.MessageFactory(_POOL).GetPrototype(_POOL.FindMessageTypeByName(f"{file.package}.{name}"))


def read_text(path: str, message: Any) -> Any:
    """`message`, filled from a file in text form.

    Raises ServingError (INVALID_ARGUMENT) naming the file and what is wrong with it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(f"cannot read {path}: {error}") from error
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise invalid(f"{path} is not a {message.DESCRIPTOR.name} in text form: {error}") from error


for _name, _kind in (("Int64Value", INT64), ("BoolValue", BOOL), ("StringValue", STRING)):
    message_class(_name, {"value": _kind})
message_class("PrometheusConfig", {"enable": BOOL, "path": STRING})
MonitoringConfig = message_class("MonitoringConfig", {"prometheus_config": "PrometheusConfig"})
SslConfig = message_class(
    "SSLConfig", {"server_key": STRING, "server_cert": STRING, "custom_ca": STRING, "client_verify": BOOL}
)
BatchingParameters = message_class(  # only its text form is read, so the numbers do not matter
    "BatchingParameters",
    {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": INT64,
        "pad_variable_length_inputs": BOOL,
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
    repeated=["allowed_batch_sizes"],
)
HealthCheckRequest = message_class("HealthCheckRequest", {"service": STRING})
HealthCheckResponse = message_class("HealthCheckResponse", {"status": INT64})  # an enum is a number on the wire
