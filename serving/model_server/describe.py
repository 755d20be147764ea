"""Describes models to clients: status and metadata, as protocol buffers for gRPC and as JSON for REST."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from grpc import StatusCode
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.errors import ServingError, invalid
from serving.model_server.loader import LoadedModel
from serving.model_server.versions import VersionManager

SIGNATURES = "signature_def"  # the one metadata field there is


def model_status(manager: VersionManager, spec: ModelSpec) -> GetModelStatusResponse:
    """State and last error of the versions that `spec` asks for, newest first. Raises ServingError."""
    response = GetModelStatusResponse()
    for version in manager.status(spec):
        one = response.model_version_status.add(version=version.number, state=version.state)
        error = version.error or ServingError(StatusCode.OK, "")
        one.status.error_code = error.code.value[0]
        one.status.error_message = error.message
    return response


def model_metadata(model: LoadedModel, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """The model's signatures as they were saved.

    Raises ServingError (INVALID_ARGUMENT) for another metadata field or none.
    """
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURES:
            raise invalid(f"Metadata field {field} is not supported; there is: {SIGNATURES}")
    response = GetModelMetadataResponse()
    response.model_spec.name = model.name
    response.model_spec.version.value = model.version
    response.metadata[SIGNATURES].Pack(_signature_map(model))
    return response


def metadata_json(model: LoadedModel) -> dict[str, Any]:
    """The same as plain JSON values: 64-bit numbers are strings, default fields are printed."""
    spec = {"name": model.name, "signature_name": "", "version": str(model.version)}
    return {"model_spec": spec, "metadata": {SIGNATURES: to_json(_signature_map(model))}}


def to_json(message: Any) -> dict[str, Any]:
    """A proto as plain JSON values under its field names, default fields printed."""
    return json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)


def _signature_map(model: LoadedModel) -> SignatureDefMap:
    signatures = SignatureDefMap()
    for name, definition in model.signature_defs.items():
        signatures.signature_def[name].CopyFrom(definition)
    return signatures
