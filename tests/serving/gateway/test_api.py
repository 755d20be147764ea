"""The API against its own schema, and every error by hand."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from serving.gateway.breaker import SILENT_S
from serving.gateway.config import GatewayConfig
from serving.gateway.run import MAX_HEAD_BYTES
from tests.serving.gateway import running

CHANGES_ITEMS = True
MINIMAL = {"user_id": "u", "item_id": "i1"}


def problem(response, status, kind):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "request_id", "errors"}
    assert (body["type"], body["status"]) == (f"urn:zhiyin:problem:{kind}", status)
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


def raw(gateway, data):
    """Bytes on a connection of their own; the answer's first line."""
    with socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=30) as connection:
        connection.sendall(data)
        return connection.recv(65536).decode("latin-1").partition("\r\n")[0]


def test_no_call_fails_or_answers_outside_its_schema(gateway, tmp_path):
    """Generated requests, valid and not, for every operation of the OpenAPI document."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", "--url", gateway.url),
        *(
            "--max-examples",
            "15",
            "--seed",
            "7",
            "--workers",
            "1",
            "--no-color",
            "--phases",
            "examples,coverage,fuzzing",
        ),
        *(
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_faults_of_a_request_are_named_by_field(gateway):
    body = problem(gateway.http.get("/v1/users/u/recommendations", params={"k": 0}), 422, "invalid-request")
    assert body["errors"][0]["field"] == "query.k"
    problem(gateway.http.get("/v1/users/u/recommendations", params={"k": 10**6}), 422, "invalid-request")
    body = problem(
        gateway.http.post("/v1/recommendations", json={"history": [{"item_id": ""}]}), 422, "invalid-request"
    )
    assert body["errors"][0]["field"] == "body.history.0.item_id"
    unknown = {"objective_weights": {"applause": 1.0}}
    assert (
        "applause" in problem(gateway.http.post("/v1/recommendations", json=unknown), 422, "invalid-request")["detail"]
    )
    problem(gateway.http.post("/v1/recommendations", json={"surprise": 1}), 422, "invalid-request")
    problem(gateway.http.put("/v1/users/u", json={"categorical": {"shoe": "42"}}), 422, "invalid-request")


def test_paths_and_methods_that_do_not_exist(gateway):
    problem(gateway.http.get("/v2/anything"), 404, "not-found")
    problem(gateway.http.get("/v1/items/no-such-item"), 404, "not-found")
    problem(gateway.http.get("/v1/media/i1"), 404, "not-found")
    problem(gateway.http.patch("/v1/events", json={}), 405, "method-not-allowed")


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": "u", "item_id": "\xff\xfe"}',
        b"{" * 5,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"",
        b"null",
        b'{"user_id": "\\ud800", "item_id": "i1"}',
        b'{"user_id": "u\\u0000", "item_id": "i1"}',
        b'{"user_id": "u", "item_id": "i1", "value": NaN}',
        b'{"user_id": "u", "item_id": "i1", "value": 1e400}',
        b'{"user_id": "u", "item_id": "i1", "timestamp": 99999999999999999999999}',
        b'{"user_id": "u", "item_id": "i1", "timestamp": "0001-01-01T00:00:00+23:59x"}',
    ],
    ids=range(12),
)
def test_a_body_that_is_no_event_is_refused(gateway, body):
    headers = {"Content-Type": "application/json"}
    response = gateway.http.post("/v1/events", content=body, headers=headers)
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_body_of_another_type_is_not_taken_for_json(gateway):
    content = json.dumps(MINIMAL)
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {"Content-Type": kind} if kind else {}
        assert gateway.http.post("/v1/events", content=content, headers=headers).status_code == 422


def test_bodies_have_a_limit_with_and_without_their_length(gateway):
    large = b'{"user_id": "' + b"u" * (1 << 20) + b'"}'
    headers = {"Content-Type": "application/json"}
    problem(gateway.http.post("/v1/events", content=large, headers=headers), 413, "body-too-large")
    chunks = (large[at : at + 65536] for at in range(0, len(large), 65536))
    problem(gateway.http.post("/v1/events", content=chunks, headers=headers), 413, "body-too-large")
    many = {"events": [MINIMAL] * 1001}
    problem(gateway.http.post("/v1/events", json=many), 422, "invalid-request")
    assert gateway.http.post("/v1/events", json={"events": [MINIMAL] * 1000}).json()["accepted"] == 1000


def test_malformed_http_does_not_stop_the_service(gateway):
    assert " 400 " in raw(gateway, b"GARBAGE\r\n\r\n")
    assert " 400 " in raw(gateway, b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    first = raw(gateway, b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n" + both + b"\r\n0\r\n\r\n")
    assert first.split()[1] in ("400", "422"), "the two lengths of a smuggled request are not both believed"
    assert gateway.http.get("/health/live").status_code == 200


def test_request_ids_come_back_and_tricks_with_them_do_not(gateway):
    given = gateway.http.get("/v1/popular", headers={"X-Request-ID": "abc-123"})
    assert (given.headers["X-Request-ID"], given.json()["request_id"]) == ("abc-123", "abc-123")
    odd = gateway.http.get("/v1/popular", headers={"X-Request-ID": "a b;<script>"})
    assert len(odd.headers["X-Request-ID"]) == 32


def test_a_page_of_another_name_cannot_reach_a_loopback_service(gateway):
    refused = gateway.http.get("/v1/popular", headers={"Host": "attacker.example"})
    problem(refused, 403, "unknown-host")
    assert gateway.http.get("/v1/popular", headers={"Host": "localhost:1234"}).status_code == 200


def test_answers_carry_headers_of_safety_and_no_cors(gateway):
    answer = gateway.http.get("/v1/popular", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert "server" not in answer.headers


def test_ids_with_slashes_spaces_and_other_letters_work(gateway):
    for user_id in ("a%2Fb", "ü ñ 漢", "..", "%252e%252e"):
        path = f"/v1/users/{user_id}/recommendations" if user_id != ".." else "/v1/users/%2E%2E/recommendations"
        assert gateway.http.get(path, params={"k": 1}).status_code in (200, 404)
    body = {"user_id": "a/b", "item_id": "i1"}
    assert gateway.post(body).json()["accepted"] == 1


def test_a_budget_that_cannot_be_kept_is_answered_without_the_model(gateway):
    time.sleep(1.2 * SILENT_S)  # without an answer of the model's: it looks closer to being away
    for _ in range(2 * GatewayConfig().breaker_failures):
        answer = gateway.http.get("/v1/users/hasty/recommendations", headers={"X-Budget-Ms": "1"}).json()
        assert answer["items"] and answer["degraded"]["cause"] != "circuit_open"
    assert gateway.recommend("hasty")["degraded"] is None, "one caller's haste does not stop the others"


def test_too_many_requests_are_told_when_to_come_again(model_server, tmp_path):
    store = tmp_path / "store.sqlite"
    running.fill(store)
    limited = running.settings(model_server, store, rate_limit_per_s=1.0, rate_limit_burst=3)
    gateway = running.Gateway(tmp_path / "gateway", limited)
    statuses = [gateway.http.get("/v1/popular").status_code for _ in range(6)]
    assert statuses[:3] == [200, 200, 200]
    refused = gateway.http.get("/v1/popular")
    problem(refused, 429, "too-many-requests")
    time.sleep(int(refused.headers["Retry-After"]))
    assert gateway.http.get("/v1/popular").status_code == 200
    assert gateway.http.get("/health/live").status_code == 200, "health and metrics have no limit"
    gateway.stop()


def test_the_process_has_no_tensorflow():
    code = "import sys, serving.gateway.run; sys.exit('tensorflow' in sys.modules or 'apache_beam' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": "."}).returncode == 0
    )


def test_a_request_whose_headers_never_end_is_refused_before_it_fills_the_memory(gateway):
    with socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=30) as connection:
        connection.sendall(b"GET /v1/popular HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        sent, answer = 0, b""
        try:
            while sent < 64 * MAX_HEAD_BYTES:
                sent += connection.send(b"a" * 65536)
            answer = connection.recv(65536)
        except ConnectionError:  # the answer is lost where the connection was reset first
            pass
    assert sent < 64 * MAX_HEAD_BYTES
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    long = b"GET /v1/popular HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n"
    assert raw(gateway, long) == "HTTP/1.1 200 OK"
