"""gRPC as TF Serving answers it: codes, no casting, shape of the answer, TensorProto semantics, deadlines."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.model_server.config import ModelSettings, ServableOptions
from serving.model_server.tensors import MAX_FILLED_ELEMENTS

X = {"x": np.array([2, 4], np.float32)}


def float_proto(shape, **fields) -> TensorProto:
    proto = TensorProto(dtype=1, **fields)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def test_codes(client):
    bad = StatusCode.INVALID_ARGUMENT
    for kwargs, code, word in [
        ({"inputs": X, "model": "nobody"}, StatusCode.NOT_FOUND, "nobody"),
        ({"inputs": X, "version": 7}, StatusCode.NOT_FOUND, "7"),
        ({"inputs": X, "label": "canary"}, bad, "canary"),
        ({"inputs": {}}, bad, "'x'"),
        ({"inputs": {**X, "more": 1.0}}, bad, "'more'"),
        ({"inputs": {"wrong": X["x"]}}, bad, "'wrong'"),
        ({"inputs": {"x": np.array([1], np.int32)}}, bad, "float32"),
        ({"inputs": {"x": float_proto([2], tensor_content=b"123")}}, bad, "'x'"),
        ({"inputs": {"x": float_proto([-1], float_val=[1])}}, bad, "'x'"),
        ({"inputs": {"x": TensorProto()}}, bad, "'x'"),
        ({"inputs": X, "model": ""}, bad, "name"),
        ({"inputs": X, "signature": "nope"}, StatusCode.FAILED_PRECONDITION, "nope"),
    ]:
        got, message = client.code(client.predict, **kwargs)
        assert got == code and word in message, (kwargs, got, message)
    assert list(client.predict(X).outputs["y"].float_val) == [1, 2]


def test_no_model_spec_and_bad_filters(client):
    request = PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(X["x"]))
    assert client.code(client.predictions.Predict, request)[0] == StatusCode.INVALID_ARGUMENT
    request.model_spec.name = "toy"
    for output_filter, code in [
        (["y"], None),
        (["z"], StatusCode.INVALID_ARGUMENT),
        (["y", "y"], StatusCode.INVALID_ARGUMENT),
    ]:
        del request.output_filter[:]
        request.output_filter.extend(output_filter)
        if code is None:
            assert list(client.predictions.Predict(request).outputs) == ["y"]
        else:
            assert client.code(client.predictions.Predict, request)[0] == code
    assert client.code(client.models.GetModelStatus, GetModelStatusRequest())[0] == StatusCode.INVALID_ARGUMENT
    assert client.code(client.predictions.GetModelMetadata, GetModelMetadataRequest())[0] == StatusCode.INVALID_ARGUMENT


def test_an_output_filter_leaves_the_other_outputs_out(client):
    request = PredictRequest(output_filter=["total"])
    request.model_spec.name, request.model_spec.signature_name = "toy", "mixed"
    for name, value in {"id": ["a"], "n": np.array([[1, 2]], np.int32), "f": np.array([1], np.float32)}.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    outputs = client.predictions.Predict(request).outputs
    assert list(outputs) == ["total"] and list(outputs["total"].int_val) == [3]


def test_messages_are_cut_at_1024_characters(client):
    _, message = client.code(client.predict, X, signature="s" * 5000)
    assert len(message) == 1024


def test_shapes_are_not_compared_with_the_signature_and_a_failing_op_is_invalid_argument(client):
    matrix = client.predict({"x": np.array([[2, 4]], np.float32)}).outputs["y"]  # the signature says one dimension
    assert [dim.size for dim in matrix.tensor_shape.dim] == [1, 2]
    code, message = client.code(
        client.predict, {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)}, signature="add"
    )
    assert code == StatusCode.INVALID_ARGUMENT and "[2]" in message and "[3]" in message


def test_values_stand_in_the_typed_fields_and_the_spec_is_resolved(client):
    response = client.predict(
        {"id": ["a", "b"], "n": np.ones((2, 2), np.int32), "f": np.array([0.1, 0.2], np.float32)}, signature="mixed"
    )
    outputs = response.outputs
    assert list(outputs["label"].string_val) == [b"a!", b"b!"]
    assert list(outputs["total"].int_val) == [2, 2]
    np.testing.assert_array_equal(outputs["f"].float_val, np.array([0.1, 0.2], np.float32))
    assert not any(tensor.tensor_content for tensor in outputs.values())
    assert client.predict(X, label="stable").model_spec == ModelSpec(
        name="toy", version={"value": 1}, signature_name="serving_default"
    )


def test_every_dtype_comes_back(client):
    sent = {
        "i64": np.array([-(2**63), 5]), "b": np.array([True, False]), "d": np.array([0.1, np.inf]),
        "u8": np.array([0, 255], np.uint8), "u64": np.array([0, 2**64 - 1], np.uint64),
    }  # fmt: skip
    outputs = client.predict(sent, signature="kinds").outputs
    for name, values in sent.items():
        got = tf.make_ndarray(outputs[name])
        assert got.dtype == values.dtype
        np.testing.assert_array_equal(got, values)
    half = np.array([0.1, 65504], np.float16)
    np.testing.assert_array_equal(tf.make_ndarray(client.predict({"x": half}, signature="narrow").outputs["y"]), half)


def test_large_messages_both_ways(client):
    values = np.arange(3_000_000, dtype=np.float32)  # 12 MB
    answer = client.predict({"x": values}).outputs["y"]
    np.testing.assert_array_equal(tf.make_ndarray(answer), values / 2)


def test_a_short_field_repeats_its_last_value(client):
    def send(proto):
        return list(client.predict({"x": proto}).outputs["y"].float_val)

    assert send(float_proto([4], float_val=[2, 6])) == [1, 3, 3, 3]
    assert send(float_proto([3])) == [0, 0, 0]
    assert send(float_proto([2], float_val=[2, 4, 6])) == [1, 2]
    assert send(float_proto([2], tensor_content=np.array([2, 4], np.float32).tobytes())) == [1, 2]
    assert send(float_proto([0])) == []


def test_a_claim_of_a_huge_shape_is_refused_at_once(client):
    started = time.monotonic()
    for shape in ([MAX_FILLED_ELEMENTS + 1], [2**40], [2**40, 2**40], [0, 2**62]):
        assert (
            client.code(client.predict, {"x": float_proto(shape, float_val=[1])})[0] == StatusCode.INVALID_ARGUMENT
        ), shape
    assert time.monotonic() - started < 2


STEPS = {"steps": np.array(10**12, np.int64)}  # hours of counting


def test_a_deadline_stops_the_run(client, server, wait_until):
    started = time.monotonic()
    code, _ = client.code(client.predict, STEPS, signature="spin", timeout=0.5)
    assert code == StatusCode.DEADLINE_EXCEEDED and time.monotonic() - started < 5
    wait_until(lambda: in_flight(server) == 0)


def test_a_client_that_goes_away_stops_its_run(client, server, wait_until):
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "toy", "spin"
    request.inputs["steps"].CopyFrom(tf.make_tensor_proto(STEPS["steps"]))
    call = client.predictions.Predict.future(request)
    wait_until(lambda: in_flight(server) == 1)
    call.cancel()
    wait_until(lambda: in_flight(server) == 0)


@pytest.fixture
def eager_switching():
    """Python changes threads every microsecond, so that two threads do meet between two lines."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def test_one_calls_deadline_does_not_touch_another(client, server, eager_switching, wait_until):
    """Runs that are cancelled all the time beside runs that must finish: each stops, and only by its own deadline.

    TensorFlow's own cancellation context is a global: with it, a run gets another's manager or none, and counts for
    ever.
    """
    errors = []

    def cancelled():
        for _ in range(10):
            errors.append(
                client.code(client.predict, STEPS, signature="spin", timeout=0.05)[0]
                is not StatusCode.DEADLINE_EXCEEDED
            )

    def finishing():
        for _ in range(150):
            errors.append(list(client.predict(X).outputs["y"].float_val) != [1, 2])

    threads = [threading.Thread(target=target) for target in (cancelled, cancelled, finishing, finishing)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 320 and not any(errors)
    wait_until(lambda: in_flight(server) == 0)


def in_flight(server) -> int:
    return sum(version.in_flight for version in server.manager.status(ModelSpec(name="toy")))


def test_metadata_carries_the_signatures_as_saved(client):
    request = GetModelMetadataRequest(model_spec=ModelSpec(name="toy"), metadata_field=["signature_def"])
    response = client.predictions.GetModelMetadata(request)
    assert response.model_spec.version.value == 1
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["add"].inputs["z"].dtype == tf.float32.as_datatype_enum
    for fields in ([], ["weights"]):
        bad = GetModelMetadataRequest(model_spec=ModelSpec(name="toy"), metadata_field=fields)
        assert client.code(client.predictions.GetModelMetadata, bad)[0] == StatusCode.INVALID_ARGUMENT


def test_classify_and_regress(client):
    example = tf.train.Example()
    example.features.feature["a"].float_list.value.extend([0.25, 4])
    request = ClassificationRequest(model_spec=ModelSpec(name="toy", signature_name="classify"))
    request.input.example_list.examples.append(example)
    (classifications,) = client.predictions.Classify(request).result.classifications
    assert [(one.label, one.score) for one in classifications.classes] == [("low", 0.25), ("high", 4.0)]

    request = RegressionRequest(model_spec=ModelSpec(name="toy", signature_name="regress"))
    request.input.example_list_with_context.context.features.feature["n"].int64_list.value.append(3)
    request.input.example_list_with_context.examples.add()
    response = client.predictions.Regress(request)
    assert [one.value for one in response.result.regressions] == [6.0]
    assert response.model_spec.signature_name == "regress"


@pytest.mark.parametrize(("signature", "word"), [("nope", "nope"), ("regress", "scores")])
def test_classify_refuses_other_signatures(client, signature, word):
    request = ClassificationRequest(model_spec=ModelSpec(name="toy", signature_name=signature))
    request.input.example_list.examples.add()
    code, message = client.code(client.predictions.Classify, request)
    assert code in (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION) and word in message


def test_method_names_are_checked_where_that_is_asked_for(serving, toy_path):
    request = ClassificationRequest(model_spec=ModelSpec(name="toy", signature_name="regress"))
    request.input.example_list.examples.add()
    with serving(ModelSettings("toy", str(toy_path)), servables=ServableOptions(check_method_names=True)) as client:
        code, message = client.code(client.predictions.Classify, request)
        assert code == StatusCode.INVALID_ARGUMENT and "method_name" in message


def test_answers_come_as_tensor_content_where_that_is_asked_for(serving, toy_path):
    with serving(ModelSettings("toy", str(toy_path)), servables=ServableOptions(tensor_content=True)) as client:
        answer = client.predict(X).outputs["y"]
        assert answer.tensor_content == np.array([1, 2], np.float32).tobytes() and not answer.float_val
        np.testing.assert_array_equal(tf.make_ndarray(answer), [1, 2])
        words = client.predict({"text": ["a", "b"]}, signature="length").outputs["text"]
        assert list(words.string_val) == [b"a", b"b"]


def test_empty_example_lists_are_refused(client):
    request = RegressionRequest(model_spec=ModelSpec(name="toy", signature_name="regress"))
    assert client.code(client.predictions.Regress, request)[0] == StatusCode.INVALID_ARGUMENT
