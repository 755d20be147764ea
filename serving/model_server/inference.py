"""Runs Predict, Classify and Regress on one loaded model: the same code for gRPC, REST and warm-up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResponse
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

from serving.model_server import tensors
from serving.model_server.cancellation import CancellationToken
from serving.model_server.errors import failed_precondition, invalid
from serving.model_server.loader import LoadedModel
from serving.model_server.signatures import DEFAULT_NAME, Signature

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


def predict(model: LoadedModel, request: PredictRequest, token: CancellationToken) -> PredictResponse:
    """Run the request's signature on its tensors. Raises ServingError."""
    signature = model.signature(request.model_spec.signature_name)
    sent = request.inputs
    signature.check_inputs(sent)
    signature.check_outputs(request.output_filter)
    inputs = {}
    for name, proto in sent.items():
        dtype = signature.inputs[name]
        if proto.dtype != dtype.as_datatype_enum:
            raise invalid(f"input {name!r}: got {_dtype_name(proto.dtype)}, expected {dtype.name}")
        inputs[name] = tensors.to_tensor(proto, name)
    outputs = signature(inputs, token)
    response = PredictResponse()
    _resolve(response.model_spec, model, signature.name)
    for name in request.output_filter or outputs:
        response.outputs[name].CopyFrom(tensors.to_proto(outputs[name], model.options.tensor_content))
    return response


def classify(model: LoadedModel, request: ClassificationRequest, token: CancellationToken) -> ClassificationResponse:
    """Run a classify signature on the request's examples. Raises ServingError."""
    signature = _example_signature(model, request.model_spec.signature_name, CLASSIFY, "classification")
    if not {"classes", "scores"} & set(signature.outputs):
        raise failed_precondition(f"signature {signature.name!r} has neither the output 'classes' nor 'scores'")
    examples = _serialized_examples(request.input)
    outputs = signature({"inputs": tf.constant(examples, tf.string)}, token)
    classes = _matrix(outputs, "classes", tf.string, len(examples))
    scores = _matrix(outputs, "scores", tf.float32, len(examples))
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(f"classes of shape {list(classes.shape)} do not match scores of shape {list(scores.shape)}")
    num_classes = next(values.shape[1] for values in (classes, scores) if values is not None)
    response = ClassificationResponse()
    _resolve(response.model_spec, model, signature.name)
    for row in range(len(examples)):
        classifications = response.result.classifications.add()
        for column in range(num_classes):
            one = classifications.classes.add()
            if classes is not None:
                one.label = _text(classes[row, column])
            if scores is not None:
                one.score = scores[row, column]
    return response


def regress(model: LoadedModel, request: RegressionRequest, token: CancellationToken) -> RegressionResponse:
    """Run a regress signature on the request's examples. Raises ServingError."""
    signature = _example_signature(model, request.model_spec.signature_name, REGRESS, "regression")
    if "outputs" not in signature.outputs:
        raise failed_precondition(f"signature {signature.name!r} has no output 'outputs'")
    examples = _serialized_examples(request.input)
    values = signature({"inputs": tf.constant(examples, tf.string)}, token)["outputs"]
    if values.dtype != tf.float32 or values.shape not in ([len(examples)], [len(examples), 1]):
        raise invalid(
            f"got outputs {values.dtype.name} {list(values.shape)}, "
            f"expected one float32 for each of {len(examples)} examples"
        )
    response = RegressionResponse()
    _resolve(response.model_spec, model, signature.name)
    for value in np.ravel(values.numpy()).tolist():
        response.result.regressions.add().value = value
    return response


def _dtype_name(number: int) -> str:
    known = number in types_pb2.DataType.values() and number != types_pb2.DT_INVALID
    return types_pb2.DataType.Name(number) if known else f"the unknown dtype {number}"


def _example_signature(model: LoadedModel, name: str, method: str, kind: str) -> Signature:
    signature = model.signatures.get(name or DEFAULT_NAME)
    if signature is None:
        raise invalid(
            f"No signature was found with the name: {name or DEFAULT_NAME}; there are: {sorted(model.signatures)}"
        )
    if model.options.check_method_names and signature.method_name != method:
        raise invalid(
            f"Expected {kind} signature method_name to be {method}; "
            f"signature {signature.name!r} has {signature.method_name!r}"
        )
    if list(signature.inputs.items()) != [("inputs", tf.string)]:
        raise failed_precondition(
            f"signature {signature.name!r} takes {signature.inputs}, expected one string input 'inputs'"
        )
    return signature


def _serialized_examples(sent: Input) -> list[bytes]:
    """[num_examples] serialized tf.Examples, a shared context in front: joined serialized protos are merged ones."""
    context = b""
    examples = sent.example_list.examples
    if sent.WhichOneof("kind") == "example_list_with_context":
        context = sent.example_list_with_context.context.SerializeToString()
        examples = sent.example_list_with_context.examples
    if not examples:
        raise invalid("Input is empty: expected one example or more")
    return [context + example.SerializeToString() for example in examples]


def _matrix(outputs: Mapping[str, tf.Tensor], name: str, dtype: tf.DType, num_rows: int) -> np.ndarray | None:
    values = outputs.get(name)
    if values is None:
        return None
    if values.dtype != dtype or values.shape.rank != 2 or values.shape[0] != num_rows:
        raise invalid(
            f"got {name} {values.dtype.name} {list(values.shape)}, expected {dtype.name} [{num_rows}, num_classes]"
        )
    return values.numpy()


def _text(label: bytes) -> str:
    try:
        return label.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"the class label {label!r} is not UTF-8") from error


def _resolve(spec: ModelSpec, model: LoadedModel, signature_name: str) -> None:
    spec.name = model.name
    spec.version.value = model.version
    spec.signature_name = signature_name
