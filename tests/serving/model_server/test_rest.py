"""REST as TF Serving answers it: paths, bodies, shapes and types of answers, metadata, classify and regress."""

from __future__ import annotations

import base64
import http.client
import json
import socket

import numpy as np
import pytest
import tensorflow as tf


def test_wrong_method_or_path_is_400_and_never_405(client):
    for method, path in [
        ("GET", "/v1/models/toy:predict"),
        ("POST", "/v1/models/toy"),
        ("PUT", "/v1/models/toy:predict"),
        ("DELETE", "/v1/models/toy"),
        ("POST", "/v1/models/toy:explain"),
        ("GET", "/v1/nothing/here"),
        ("POST", "/v1/models/toy/versions/one:predict"),
    ]:
        status, answer, content_type = client.http(method, path, "{}" if method == "POST" else None)
        assert (status, content_type.split(";")[0]) == (400, "application/json"), (method, path)
        assert answer == {"error": f"Malformed request: {method} {path}"}
    assert client.http("BREW", "/v1/models/toy")[0] == 400  # the parser's own answer: no such method exists


def test_unknown_model_or_version_is_404_and_unknown_label_or_signature_400(client):
    good = {"instances": [1.0]}
    assert client.post(good, "/v1/models/nobody:predict") == (
        404,
        {"error": "Servable not found for request: Latest(nobody)"},
    )
    status, answer = client.post(good, "/v1/models/toy/versions/7:predict")
    assert (status, answer["error"]) == (404, "Servable not found for request: Specific(toy, 7)")
    assert client.http("GET", "/v1/models/nobody")[0] == 404
    assert client.http("GET", "/v1/models/toy/versions/7")[0] == 404
    assert client.http("GET", "/v1/models/toy/versions/7/metadata")[0] == 404
    assert client.post(good, "/v1/models/toy/labels/canary:predict")[0] == 400
    status, answer = client.post({**good, "signature_name": "nope"})
    assert status == 400 and "nope" in answer["error"] and "serving_default" in answer["error"]
    status, answer = client.post(good, f"/v1/models/toy/versions/{2**70}:predict")
    assert status == 400 and str(2**70) in answer["error"]
    assert client.http("GET", "/v1/models")[0] == 400


def test_versions_labels_and_letter_case_of_the_path(client):
    for path in [
        "/v1/models/toy/versions/1:predict",
        "/v1/models/toy/labels/stable:predict",
        "/V1/Models/toy:Predict",
        "/v1/models/to%79:predict",
    ]:
        assert client.post({"instances": [3.0]}, path) == (200, {"predictions": [1.5]}), path


def test_outside_of_v1_is_404(client):
    assert client.http("GET", "/")[0] == 404
    assert client.http("GET", "/v2/models/toy")[0] == 404


def test_content_type_of_the_request_and_unknown_keys_are_ignored(client):
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/json; charset=utf-8",
        "nonsense",
    ]:
        status, answer, answer_type = client.http(
            "POST",
            "/v1/models/toy:predict",
            '{"instances": [2], "unknown": {"a": [1]}}',
            {"Content-Type": content_type},
        )
        assert (status, answer) == (200, {"predictions": [1.0]})
        assert answer_type.split(";")[0] == "application/json"


def test_chunked_bodies_and_kept_connections(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    for _ in range(2):
        connection.request(
            "POST",
            "/v1/models/toy:predict",
            iter([b'{"instances"', b": [4]}"]),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        assert connection.getresponse().read() == b'{"predictions": [2.0]}'
    connection.close()


def test_an_idle_connection_stalls_nobody(client):
    with socket.create_connection(("127.0.0.1", client.rest_port)) as idle:
        idle.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        assert client.post({"instances": [2]}) == (200, {"predictions": [1.0]})


def test_instances_want_exactly_the_signatures_keys_in_equal_shapes(client):
    row = {"id": "a", "n": [1, 2], "f": 1}
    assert client.post({"signature_name": "mixed", "instances": [row, row]})[0] == 200
    for bad, word in [
        ({"id": "a", "n": [1, 2]}, "'f'"),
        ({**row, "extra": 1}, "'extra'"),
        ({**row, "n": [1, 2, 3]}, "'n'"),
        ({**row, "n": [1, [2]]}, "'n'"),
        ([1], "element 1"),
    ]:
        status, answer = client.post({"signature_name": "mixed", "instances": [row, bad]})
        assert status == 400 and word in answer["error"], (bad, answer)
    assert client.post({"instances": []})[0] == 400
    assert client.post({"instances": 3})[0] == 400
    assert client.post({"instances": {"x": 3}})[0] == 400
    assert client.post({"instances": [1.0, {"x": 1.0}]})[0] == 400
    assert client.post({"instances": [{"x": 1.0}, {"x": 2.0}]}) == (200, {"predictions": [0.5, 1.0]})
    assert client.post({"signature_name": "mixed", "instances": [1, 2]})[0] == 400  # several inputs, no names


def test_inputs_are_a_value_a_list_or_an_object(client):
    assert client.post({"inputs": [2, 4]}) == (200, {"outputs": [1.0, 2.0]})
    assert client.post({"inputs": []}) == (200, {"outputs": []})
    assert client.post({"inputs": {"x": [2], "ignored": "here"}}) == (200, {"outputs": [1.0]})
    assert client.post({"inputs": 7, "signature_name": "spin"}) == (200, {"outputs": 7})
    text = base64.b64encode("añb".encode()).decode()
    assert client.post({"inputs": [{"b64": text}], "signature_name": "length"}) == (
        200,
        {"outputs": {"text": ["añb"], "bytes": [4]}},
    )
    status, answer = client.post({"inputs": {"x": [1]}, "signature_name": "add"})
    assert status == 400 and "z" in answer["error"]
    assert client.post({"inputs": [1], "signature_name": "add"})[0] == 400
    assert client.post({"inputs": [1], "instances": [1]})[0] == 400
    assert client.post({"something": [1]})[0] == 400


def test_one_output_loses_its_name_and_several_give_objects(client):
    assert client.post({"instances": [2]}) == (200, {"predictions": [1.0]})
    row = {"id": "a", "n": [1, 2], "f": 0.5}
    status, answer = client.post({"signature_name": "mixed", "instances": [row]})
    assert status == 200 and answer == {
        "predictions": [{"label": "a!", "total": 3, "f": 0.5, "raw_bytes": {"b64": "YQ=="}}]
    }
    status, answer = client.post({"signature_name": "mixed", "inputs": {"id": ["a"], "n": [[1, 2]], "f": [0.5]}})
    assert answer == {"outputs": {"label": ["a!"], "total": [3], "f": [0.5], "raw_bytes": [{"b64": "YQ=="}]}}


def test_rows_need_equal_first_dimensions_and_a_scalar_works_in_columns_only(client):
    assert client.post({"signature_name": "uneven", "instances": [1, 2]})[0] == 400
    assert client.post({"signature_name": "uneven", "inputs": [1, 2]}) == (
        200,
        {"outputs": {"a": [1.0, 2.0], "b": [1.0]}},
    )
    assert client.post({"signature_name": "scalar", "instances": [1, 2]})[0] == 400
    assert client.post({"signature_name": "scalar", "inputs": [1, 2]}) == (200, {"outputs": 3.0})


KINDS = {"i64": [1], "b": [True], "d": [0.1], "u8": [255], "u64": [2**64 - 1]}


def test_right_types_come_back_as_they_went(client):
    assert client.post({"signature_name": "kinds", "inputs": KINDS}) == (200, {"outputs": KINDS})
    assert client.post({"inputs": [1, 2.5]}) == (200, {"outputs": [0.5, 1.25]})
    big = {**KINDS, "i64": [-(2**63)], "d": [2]}
    assert client.post({"signature_name": "kinds", "inputs": big}) == (200, {"outputs": {**big, "d": [2.0]}})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("i64", "1.0"), ("i64", '"1"'), ("i64", "true"), ("i64", "null"), ("i64", str(2**63)), ("i64", "1e3"),
        ("b", "1"), ("b", '"true"'), ("b", "null"),
        ("d", '"1.0"'), ("d", "true"), ("d", "null"), ("d", "1e999"), ("d", "-1e999"), ("d", "1" + "0" * 400),
        ("u8", "256"), ("u8", "-1"), ("u64", "-1"), ("u64", str(2**64)), ("u8", "{}"), ("u8", '{"b64": "YQ=="}'),
    ],
)  # fmt: skip
def test_wrong_types_are_400_and_name_the_input(client, name, value):
    inputs = ", ".join(f'"{key}": [{value if key == name else str(good[0]).lower()}]' for key, good in KINDS.items())
    status, answer = client.post(f'{{"signature_name": "kinds", "inputs": {{{inputs}}}}}')
    assert status == 400 and f"'{name}'" in answer["error"], answer


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("1435774380", np.float32(1435774380)), ("1435774380.0", np.float32(1435774380)), ("16777216", 2.0**24),
        ("16777217", 2.0**24), ("16777219", 2.0**24 + 4), (str(2**64), 2.0**64), ("1" + "0" * 30, np.float32(1e30)),
        ("1e39", np.inf), ("-1e39", -np.inf), ("1.7976931348623157e308", np.inf),
        ("3.4028235e38", np.finfo(np.float32).max),
        ("2.2250738585072014e-308", 0.0), ("1e-400", 0.0), ("0.1", np.float32(0.1)), ("1", 1.0),
    ],
)  # fmt: skip
def test_numbers_are_rounded_as_float32_does(client, sent, received):
    """Beyond its range to infinity, below its smallest to zero, all else to the nearest: as the stock server."""
    status, answer = client.post(f'{{"signature_name": "add", "inputs": {{"x": [{sent}], "z": [0]}}}}')
    assert status == 200, answer
    assert np.float32(answer["outputs"][0]) == np.float32(received)


def test_whole_numbers_beyond_2_to_the_53_are_rounded_as_float64_does(client):
    status, answer = client.post({"signature_name": "kinds", "inputs": {**KINDS, "d": [2**60 + 1]}})
    assert status == 200 and answer["outputs"]["d"] == [float(2**60)]


def test_a_float_of_an_example_is_rounded_as_float32_does(client):
    body = '{"signature_name": "classify", "examples": [{"a": [1435774380.0, 1e39]}]}'
    status, answer = client.post(body, "/v1/models/toy:classify")
    assert status == 200, answer
    assert [np.float32(score) for _, score in answer["results"][0]] == [np.float32(1435774380), np.inf]


def test_the_next_good_request_succeeds_after_a_bad_one(client):
    assert client.post('{"instances": [1, }')[0] == 400
    assert client.post({"instances": [1]}) == (200, {"predictions": [0.5]})


def test_non_finite_numbers_are_bare_words_both_ways(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    connection.request("POST", "/v1/models/toy:predict", b'{"inputs": [NaN, Infinity, -Infinity]}')
    assert connection.getresponse().read() == b'{"outputs": [NaN, Infinity, -Infinity]}'
    connection.close()


def test_float32_prints_its_own_digits_with_a_point_or_an_exponent(client):
    """Every printed number reads back as the very float32, and none is longer than NumPy's shortest form of it."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=50), [0.2, 1e-7, 3.0, 1e20, -0.0, 16777216.0]]).astype(np.float32)
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    body = json.dumps({"signature_name": "add", "inputs": {"x": values.tolist(), "z": [0] * len(values)}})
    connection.request("POST", "/v1/models/toy:predict", body)
    printed = connection.getresponse().read().decode().split("[")[1].split("]")[0].split(", ")
    connection.close()
    for text, value in zip(printed, values):
        assert np.float32(float(text)) == value
        assert "." in text or "e" in text
        assert len(text) <= len(str(value))
    assert printed[50:55] == ["0.2", "1e-07", "3.0", "1e+20", "0.0"]


def test_int64_is_a_number_in_tensors_and_a_string_in_status(client):
    assert client.post({"signature_name": "kinds", "inputs": {**KINDS, "i64": [2**60]}})[1]["outputs"]["i64"] == [2**60]
    assert client.http("GET", "/v1/models/toy")[1]["model_version_status"][0]["version"] == "1"


def test_base64_is_one_key_of_the_standard_alphabet_with_optional_padding(client):
    def send(value):
        return client.post({"signature_name": "length", "instances": [{"text": value}]})

    assert send({"b64": "YWI="})[1]["predictions"][0] == {"text": "ab", "bytes": 2}
    assert send({"b64": "YWI"})[1]["predictions"][0] == {"text": "ab", "bytes": 2}
    assert send({"b64": ""})[1]["predictions"][0] == {"text": "", "bytes": 0}
    for bad in [
        {"b64": "YW I="},
        {"b64": "_-8="},
        {"b64": 3},
        {"b64": "YWI=", "more": 1},
        {"b65": "YWI="},
        {"b64": "Y"},
        {"b64": "é"},
    ]:
        assert send(bad)[0] == 400, bad


def test_only_string_outputs_named_bytes_are_base64(client):
    raw = base64.b64encode(b"\xff\x00").decode()
    status, answer = client.post({"signature_name": "mixed", "inputs": {"id": [{"b64": raw}], "n": [[0, 0]], "f": [0]}})
    assert status == 400 and "'label'" in answer["error"]  # bytes that are no text, in an output that promises text
    status, answer = client.post({"signature_name": "mixed", "inputs": {"id": ["é"], "n": [[0, 0]], "f": [0]}})
    assert answer["outputs"]["raw_bytes"] == [{"b64": base64.b64encode("é".encode()).decode()}]


def test_metadata_nests_and_prints_default_fields(client):
    for path in [
        "/v1/models/toy/metadata",
        "/v1/models/toy/versions/1/metadata",
        "/v1/models/toy/labels/stable/metadata",
    ]:
        status, answer, _ = client.http("GET", path)
        assert status == 200
        assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
        signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
        assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert set(signature["outputs"]) == {"y"}


def test_status(client):
    expected = {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    for path in ["/v1/models/toy", "/v1/models/toy/versions/1", "/v1/models/toy/labels/stable"]:
        assert client.http("GET", path)[:2] == (200, expected)


def test_classify_and_regress_answer_under_results(client):
    body = {"signature_name": "classify", "examples": [{"a": [0.25, 2.0]}, {"a": [1.0, 0.2]}]}
    assert client.post(body, "/v1/models/toy:classify") == (
        200,
        {"results": [[["low", 0.25], ["high", 2.0]], [["low", 1.0], ["high", 0.2]]]},
    )
    body = {"signature_name": "regress", "context": {"n": 4}, "examples": [{"other": "x"}, {"n": 5}]}
    assert client.post(body, "/v1/models/toy:regress") == (200, {"results": [8.0, 10.0]})


def test_2_is_int64_and_2_point_0_is_a_float(client):
    def regress(example):
        return client.post({"signature_name": "regress", "examples": [example]}, "/v1/models/toy:regress")

    assert regress({"n": 2}) == (200, {"results": [4.0]})
    assert regress({"n": True}) == (200, {"results": [2.0]})
    assert regress({"n": 2.0})[0] == 400  # the graph wants an int64
    assert regress({"n": [1, 2.0]})[0] == 400
    assert regress({"n": [1, "x"]})[0] == 400
    assert regress({"n": None})[0] == 400
    assert regress({"n": [[1]]})[0] == 400
    assert regress({"n": 2**63})[0] == 400
    assert regress([1])[0] == 400
    assert client.post({"signature_name": "regress", "examples": []}, "/v1/models/toy:regress")[0] == 400
    assert client.post({"signature_name": "regress"}, "/v1/models/toy:regress")[0] == 400


def test_a_predict_signature_does_not_classify(client):
    status, answer = client.post({"examples": [{"a": 1.0}]}, "/v1/models/toy:classify")
    assert status == 400 and "expected one string input" in answer["error"]


def test_malformed_requests_name_what_is_wrong(client):
    """400 or 404 with an error that names the field or the model, and the next good request succeeds."""
    row = {"id": "a", "n": [1, 2], "f": 1}
    cases = [
        ("not json", "/v1/models/toy:predict", 400, "JSON"),
        ("", "/v1/models/toy:predict", 400, "JSON"),
        ("[1]", "/v1/models/toy:predict", 400, "object"),
        (b"\xff\xfe{}", "/v1/models/toy:predict", 400, "JSON"),
        ("[" * 100_000, "/v1/models/toy:predict", 400, "JSON"),
        ({"instances": [1], "inputs": [1]}, "/v1/models/toy:predict", 400, "'instances'"),
        ({"instances": []}, "/v1/models/toy:predict", 400, "instances"),
        ({"signature_name": "mixed", "instances": [{"id": "a", "n": [1, 2]}]}, "/v1/models/toy:predict", 400, "'f'"),
        ({"signature_name": "mixed", "instances": [{**row, "id": 42}]}, "/v1/models/toy:predict", 400, "'id'"),
        ({"signature_name": 42, "instances": [1]}, "/v1/models/toy:predict", 400, "signature_name"),
        ({"signature_name": "nope", "instances": [1]}, "/v1/models/toy:predict", 400, "nope"),
        ({"instances": [1]}, "/v1/models/nobody:predict", 404, "nobody"),
        ({"instances": [1]}, "/v1/models/toy/versions/99:predict", 404, "99"),
        ({"inputs": ["\ud800"], "signature_name": "length"}, "/v1/models/toy:predict", 400, "'text'"),
    ]
    for body, path, status, word in cases:
        got, answer = client.post(body, path)
        assert got == status and word in answer["error"], (body, answer)
        assert client.post({"instances": [2]}) == (200, {"predictions": [1.0]})


def test_rest_and_grpc_agree_and_text_round_trips(client):
    """The same queries by both ways give the same values; text outside of ASCII comes back exactly."""
    texts = ["Björk – Jóga", "椎名林檎", "🎧\u200d", 'a\tb"\\\u0000', ""]
    numbers = np.random.default_rng(1).normal(size=5).astype(np.float32)
    ids = tf.constant([text.encode() for text in texts])
    grpc = client.predict(
        {"id": tf.make_tensor_proto(ids.numpy()), "n": np.ones((5, 2), np.int32), "f": numbers}, signature="mixed"
    ).outputs
    rest = client.post({"signature_name": "mixed", "inputs": {"id": texts, "n": [[1, 1]] * 5, "f": numbers.tolist()}})[
        1
    ]["outputs"]
    assert [text.decode() for text in grpc["label"].string_val] == rest["label"] == [text + "!" for text in texts]
    assert list(grpc["f"].float_val) == pytest.approx(rest["f"], abs=1e-6)
    assert [base64.b64decode(value["b64"]) for value in rest["raw_bytes"]] == list(grpc["raw_bytes"].string_val)


def test_answers_beyond_4_mib_arrive_whole(client):
    """12,000 x 100 floats are 4.8 MB over gRPC; REST sends the same number of values."""
    answer = client.predict({"n": np.array([12_000], np.int32)}, signature="picture").outputs["y"]
    assert len(answer.float_val) == 1_200_000 and [dim.size for dim in answer.tensor_shape.dim] == [12_000, 100]
    status, answer = client.post({"signature_name": "picture", "inputs": [12_000]})
    assert status == 200 and len(answer["outputs"]) == 12_000 and answer["outputs"][-1] == [0.0] * 100


def test_half_precision_prints_its_own_digits_and_cannot_be_sent(client):
    status, answer = client.post({"signature_name": "narrow", "inputs": [1.0]})
    assert status == 501 and "float16" in answer["error"]


def test_metrics_are_at_the_configured_path_under_tf_servings_names(client):
    client.post({"instances": [1]})
    client.predict({"x": np.array([1], np.float32)})
    status, page, content_type = client.http("GET", "/monitoring/prometheus/metrics")
    assert status == 200 and content_type.startswith("text/plain")
    counts = [
        line
        for line in page.splitlines()
        if line.startswith(':tensorflow:serving:request_count{model_name="toy",status="OK"}')
    ]
    assert len(counts) == 1 and float(counts[0].split()[-1]) >= 2
    client.post({"instances": [1]}, "/v1/models/invented:predict")
    assert "invented" not in client.http("GET", "/monitoring/prometheus/metrics")[1]
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert ':tensorflow:serving:request_latency_bucket{API="Predict",entrypoint="GRPC"' in page
