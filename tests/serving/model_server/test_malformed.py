"""What no well-meaning client sends: each gets an error that says what is wrong, and the server goes on."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import zlib

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.model_server.config import ModelSettings, RestTransport
from serving.model_server.tensors import MAX_FILLED_ELEMENTS, MAX_RANK

PREDICT = "/v1/models/toy:predict"
GOOD = b'{"instances": [2]}'


def exchange(port: int, raw: bytes, *, close_early: bool = False) -> tuple[int, bytes]:
    """Status and body of the answer to bytes as they are; (0, b"") where the connection ends without one.

    Where nothing comes for two seconds, the server waits for more: it is told that there is no more.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(raw)
        if close_early:
            return 0, b""
        answer = b""
        with contextlib.suppress(ConnectionError):
            try:
                while part := connection.recv(65536):
                    answer += part
            except TimeoutError:
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    answer += part
    if not answer:
        return 0, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def post(body: bytes, *headers: str, path: str = PREDICT) -> bytes:
    """A request with exactly these headers, Content-Length beside them unless one says how the body ends."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def still_answers(client) -> None:
    assert client.post({"instances": [2]}) == (200, {"predictions": [1.0]})


def test_lists_nested_however_deep_are_refused(client):
    for depth in (MAX_RANK + 1, 200, 900, 1_000, 3_000, 100_000):
        for close in ("]" * depth, ""):
            status, answer = client.post('{"instances": ' + "[" * depth + "1" + close + "}")
            assert status == 400 and answer["error"], depth
    for key in ("signature_name", "inputs", "examples", "context"):
        for depth in (500, 900, 100_000):
            for path in (PREDICT, "/v1/models/toy:classify"):
                deep = '{"a": ' * depth + "1" + "}" * depth
                status, answer = client.post(f'{{"{key}": {deep}, "examples": [{deep}]}}', path)
                assert status == 400 and answer["error"]
    still_answers(client)


def test_a_list_nested_as_deep_as_a_tensor_may_be_is_read(client):
    status, answer = client.post('{"instances": ' + "[" * MAX_RANK + "2" + "]" * MAX_RANK + "}")
    assert status == 200 and np.array(answer["predictions"]).shape == (1,) * MAX_RANK


COMPRESSED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding", "expected"),
    [
        (COMPRESSED, "gzip", 200),
        (zlib.compress(GOOD), "deflate", 200),
        (GOOD, "gzip", 400),  # it is none
        (b"", "gzip", 400),
        (b"\x1f\x8b" + b"\xff" * 50, "gzip", 400),
        (COMPRESSED[:10] + b"\x00" * 20, "gzip", 400),
        (GOOD, "deflate", 400),
        (COMPRESSED, "identity", 400),
        (gzip.compress(b"\xff\xfe", mtime=0), "gzip", 400),
        (GOOD, "nonsense", 200),  # as the stock server: an encoding that it does not know is not there
    ],
)
def test_a_body_that_is_not_the_compression_it_claims(client, body, encoding, expected):
    status, answer = exchange(client.rest_port, post(body, f"Content-Encoding: {encoding}"))
    assert status == expected
    assert json.loads(answer) == {"predictions": [1.0]} if expected == 200 else json.loads(answer)["error"]
    still_answers(client)


def test_a_compressed_body_that_ends_too_early_is_never_taken_for_whole(client):
    for length in (5, 12, len(COMPRESSED) - 9, len(COMPRESSED) - 1):
        status, answer = exchange(client.rest_port, post(COMPRESSED[:length], "Content-Encoding: gzip"))
        assert status == 400 or json.loads(answer) == {"predictions": [1.0]}, (length, answer)
    still_answers(client)


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"-5\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"5\r\nabcdefgh\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"FFFFFFFFFFFFFFFFF\r\n", "Transfer-Encoding: chunked"),
        post(GOOD, "Transfer-Encoding: chunked", "Content-Length: 18"),
        post(GOOD, "Transfer-Encoding: gzip"),
        post(GOOD, "Content-Length: 18", "Content-Length: 19"),
        post(GOOD, "Content-Length: -1"),
        post(GOOD, "Content-Length: ten"),
        post(GOOD, "Content-Length: 99999999999999999999999"),
        post(GOOD, "Bad Header: 1"),
        post(GOOD, "X: a\x00b"),
        post(GOOD, " folded: 1"),
        post(GOOD, "X: " + "a" * 100_000),
        post(GOOD, *(f"X{number}: 1" for number in range(20_000))),
        post(GOOD, path="/" + "a" * 100_000),
        post(GOOD, path="/v1/models/\xff\xfe:predict"),
        b"POST " + PREDICT.encode() + b" HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # TLS to a port that speaks none
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 1000,
        b"GET\r\n\r\n",
    ],
    ids=range(22),
)
def test_malformed_transfers_are_4xx_or_a_closed_connection_and_never_5xx(client, request_bytes):
    status, answer = exchange(client.rest_port, request_bytes)
    assert status == 0 or (400 <= status < 500 and answer), (status, answer)
    still_answers(client)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (post(GOOD, path="/v1/models/toy%00:predict"), 404),
        (post(GOOD, path="/v1/models/%ff%fe:predict"), 404),
        (post(GOOD, path="/v1/models/..%2f..%2fetc:predict"), 404),
        (post(GOOD, path="/v1/models/toy/versions/" + "9" * 5000 + ":predict"), 400),
        (post(GOOD, path="/v1/models/toy/labels/%ff:predict"), 400),
        (post(b"\xff\xfe\x00"), 400),
        (post(b'{"instances": ["\xed\xa0\x80"]}'), 400),
        (post(b'{"signature_name": "\\ud800", "instances": [1]}'), 400),
        (post(b'{"signature_name": "\\ud800", "examples": [{}]}', path="/v1/models/toy:classify"), 400),
        (post(b'{"signature_name": "classify", "examples": [{"\\ud800": 1}]}', path="/v1/models/toy:classify"), 400),
        (post(b'{"\\ud800": 1}'), 400),
        (post(b'{"instances": [' + b"9" * 100_000 + b"]}"), 400),
        (post(b'{"instances": [1e99999999999]}'), 400),
        (post(GOOD, "Expect: 100-continue"), 100),
        (post(GOOD, "Upgrade: websocket", "Sec-WebSocket-Version: 13"), 200),
        (post(GOOD, "Content-Type: \xff\xfe"), 200),
        (post(GOOD, "X-Forwarded-For: ' OR 1=1 --", "Cookie: ../../etc"), 200),
    ],
    ids=range(17),
)
def test_odd_bytes_get_the_answer_of_their_kind(client, request_bytes, expected):
    status, answer = exchange(client.rest_port, request_bytes)
    assert status == expected and (expected < 400 or json.loads(answer)["error"]), (status, answer)
    still_answers(client)


def test_a_client_that_goes_away_within_its_body_leaves_nothing_behind(client):
    for _ in range(20):
        exchange(client.rest_port, post(b'{"instances": [1', "Content-Length: 1000"), close_early=True)
        exchange(client.rest_port, post(b"5\r\n{", "Transfer-Encoding: chunked"), close_early=True)
    still_answers(client)


@pytest.fixture(scope="module")
def strict(toy_path, make_serving):
    """A server that takes bodies of 10,000 bytes and waits half a second for each part of one."""
    transport = RestTransport(max_body_bytes=10_000)
    with make_serving(ModelSettings("toy", str(toy_path)), rest=transport, rest_timeout_s=0.5) as client:
        yield client


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b'{"instances": [1]' + b" " * 10_000 + b"}"),
        post(b"", "Content-Length: 10001"),
        post(f"{20_000:x}\r\n".encode() + b" " * 20_000 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(
            gzip.compress(b" " * 1_000_000, mtime=0), "Content-Encoding: gzip"
        ),  # 1 kB that becomes a thousand times as much
        post(zlib.compress(b" " * 100_000_000), "Content-Encoding: deflate", "Content-Length: 97204"),
    ],
    ids=["length", "claim", "chunks", "gzip bomb", "deflate bomb"],
)
def test_a_body_that_is_too_large_is_413(strict, request_bytes):
    status, answer = exchange(strict.rest_port, request_bytes)
    assert status == 413 and "10000" in json.loads(answer)["error"], (status, answer)
    still_answers(strict)


def test_a_sender_that_stops_within_its_body_is_told_and_stalls_nobody(strict):
    slow = [socket.create_connection(("127.0.0.1", strict.rest_port), timeout=20) for _ in range(300)]
    for number, connection in enumerate(slow):
        head = post(b"{", "Content-Length: 100") if number % 2 else b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: "
        connection.sendall(head)
    still_answers(strict)
    answer = slow[1].recv(65536)
    assert answer.startswith(b"HTTP/1.1 408") and b'"error"' in answer
    for connection in slow:
        connection.close()
    still_answers(strict)


def test_bodies_beyond_what_all_together_may_take_are_503(toy_path, make_serving, wait_until):
    """Four bodies of nearly the largest size are under way; the fifth is told to come again, until they are gone."""
    transport = RestTransport(max_body_bytes=10_000)
    with make_serving(ModelSettings("toy", str(toy_path)), rest=transport) as client:
        slow = [socket.create_connection(("127.0.0.1", client.rest_port), timeout=20) for _ in range(4)]
        for connection in slow:
            connection.sendall(post(b" " * 9_990, "Content-Length: 10000"))
        wait_until(lambda: client.running.rest.service.body_bytes == 4 * 9_990)
        assert client.post("[" + " " * 9_000 + "]")[0] == 503
        for connection in slow:
            connection.close()
        wait_until(lambda: client.running.rest.service.body_bytes == 0)
        still_answers(client)


KEYS = st.sampled_from(["instances", "inputs", "signature_name", "examples", "context", "b64", "x", "a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()),
    method=st.sampled_from(["predict", "classify", "regress"]),
)
def test_no_body_is_a_5xx(client, body, method):
    status, answer = client.post(body, f"/v1/models/toy:{method}")
    assert status in (200, 400), answer
    assert status == 200 or answer["error"]


def proto(shape, dtype=1, **fields) -> TensorProto:
    tensor = TensorProto(dtype=dtype, **fields)
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    return tensor


@pytest.mark.parametrize(
    ("tensor", "word"),
    [
        (proto([MAX_FILLED_ELEMENTS + 1], float_val=[1]), "claims"),
        (proto([2**31, 2**31], float_val=[1]), "larger than any message"),
        (proto([2**62, 4], float_val=[1]), "larger than any message"),
        (proto([2**63 - 1] * 30), "larger than any message"),
        (proto([0, 2**62]), "larger than any message"),
        (proto([1] * (MAX_RANK + 1), float_val=[1]), "dimensions"),
        (proto([1] * 300), "dimensions"),
        (proto([-1, -1], float_val=[1]), "sizes of 0 or more"),
        (proto([2**40], tensor_content=b"1234"), "tensor_content"),
        (proto([3], tensor_content=b"123"), "tensor_content"),
        (proto([1], dtype=999), "unknown dtype 999"),
        (proto([1], dtype=0), "unknown dtype 0"),
        (proto([1], dtype=20), "DT_RESOURCE"),
        (proto([1], dtype=21), "DT_VARIANT"),
        (proto([1], dtype=101), "DT_FLOAT_REF"),
        (proto([1], dtype=7, string_val=[b"x"]), "DT_STRING"),
    ],
    ids=range(16),
)
def test_tensors_that_claim_what_they_are_not_are_invalid_argument(client, tensor, word):
    code, message = client.code(client.predict, {"x": tensor})
    assert code == StatusCode.INVALID_ARGUMENT and word in message, message
    assert list(client.predict({"x": proto([1], float_val=[2])}).outputs["y"].float_val) == [1]


def test_strings_that_are_claimed_and_not_sent_are_refused(client):
    code, message = client.code(client.predict, {"text": proto([MAX_FILLED_ELEMENTS + 1], dtype=7)}, signature="length")
    assert code == StatusCode.INVALID_ARGUMENT and "claims" in message


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=80))
def test_bytes_that_are_no_request_are_an_error_of_their_call_alone(client, raw):
    send = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    try:
        send(raw, timeout=20)
    except grpc.RpcError as error:
        assert error.code() in (StatusCode.INTERNAL, StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND)


def test_names_of_any_length_and_alphabet_are_told_back_within_a_header(client):
    for name in ("🎧" * 5000, "é" * 5000, "\n" * 5000, "a" * 100_000, "\x00"):
        code, message = client.code(client.predict, {"x": proto([1], float_val=[1])}, model=name)
        assert code == StatusCode.NOT_FOUND and len(message.encode()) <= 1024
        request = PredictRequest(model_spec=ModelSpec(name="toy", signature_name=name))
        code, _ = client.code(client.predictions.Predict, request)
        assert code == StatusCode.FAILED_PRECONDITION


def test_headers_too_large_for_grpc_end_their_call_alone(client):
    request = PredictRequest(model_spec=ModelSpec(name="toy"))
    request.inputs["x"].CopyFrom(proto([1], float_val=[2]))
    code, _ = client.code(client.predictions.Predict, request, metadata=[("x-large", "a" * 100_000)], timeout=20)
    assert code in (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE, StatusCode.INTERNAL)
    assert list(client.predictions.Predict(request, timeout=20).outputs["y"].float_val) == [1]


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\x00" * 100, b"\x00" * 1000], ids=range(3)
)
def test_what_is_not_http_2_does_not_disturb_grpc(client, server, raw):
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass
    assert list(client.predict({"x": proto([1], float_val=[2])}).outputs["y"].float_val) == [1]
