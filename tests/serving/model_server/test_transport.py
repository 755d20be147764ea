"""Connections: addresses of either family, sockets, TLS, pings, pages of other origins, proxies of the environment."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import socket
import threading

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving import loopback
from serving.export import validation
from serving.model_server.addresses import resolve
from serving.model_server.config import GrpcTransport, ModelSettings, RestTransport, ServerConfig, Tls
from serving.model_server.server import start
from tests.serving.model_server.life_cycle import answering_version

HAS_IPV6 = "::1" in resolve("localhost")


def over_grpc(target: str, credentials: grpc.ChannelCredentials | None = None) -> float:
    """What the small model at `target` answers to 0: 1000 times its version."""
    request = PredictRequest(model_spec=ModelSpec(name="m"))
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add().size = 1
    options = [("grpc.ssl_target_name_override", "model.server")] if credentials else []
    channel = grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target)
    with channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, timeout=20).outputs["y"].float_val[0]


def over_rest(host: str, port: int) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
        connection.request("POST", "/v1/models/m:predict", '{"instances": [0]}')
        return connection.getresponse().read()


@pytest.mark.parametrize(
    ("host", "clients"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),  # noqa: S104
        ("::1", ["::1"]),
        ("[::1]", ["::1"]),
        ("::", ["::1", "127.0.0.1"]),
        ("localhost", ["::1", "127.0.0.1"]),
    ],
)
def test_one_spelling_of_a_host_serves_both_ports(publish, host, clients):
    if not HAS_IPV6:
        if ":" in host:
            pytest.skip("this machine has no IPv6")
        clients = [client for client in clients if ":" not in client]
    models = (ModelSettings("m", str(publish(1))),)
    with start(ServerConfig(models, host=host, grpc_port=0, rest_port=0)) as running:
        for client in clients:
            target = f"[{client}]:{running.grpc_port}" if ":" in client else f"{client}:{running.grpc_port}"
            assert over_grpc(target) == 1000
            assert over_rest(client, running.rest_port) == b'{"predictions": [1000.0]}'


def test_an_unknown_host_is_an_error(publish):
    with pytest.raises(OSError, match=r"no\.such\.host\.invalid"):
        start(ServerConfig((ModelSettings("m", str(publish(1))),), host="no.such.host.invalid", grpc_port=0))


def test_a_unix_socket_answers_besides_the_port_or_alone(publish, tmp_path):
    models = (ModelSettings("m", str(publish(1))),)
    for port in (0, None):
        transport = GrpcTransport(socket_path=str(tmp_path / "server.socket"))
        with start(ServerConfig(models, grpc_port=port, grpc=transport)) as running:
            assert over_grpc(f"unix:{tmp_path / 'server.socket'}") == 1000
            assert (running.grpc_port is None) == (port is None)


def certificate() -> tuple[str, str]:
    """A key and a certificate of `model.server` that it signs itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "model.server")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("model.server")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    return private.decode(), signed.public_bytes(encoding).decode()


def test_grpc_speaks_tls_and_asks_clients_for_certificates_where_it_shall(publish):
    key, cert = certificate()
    models = (ModelSettings("m", str(publish(1))),)
    trusting = grpc.ssl_channel_credentials(cert.encode())
    with start(ServerConfig(models, grpc_port=0, grpc=GrpcTransport(tls=Tls(key, cert)))) as running:
        assert over_grpc(f"127.0.0.1:{running.grpc_port}", trusting) == 1000
        with pytest.raises(grpc.RpcError):
            over_grpc(f"127.0.0.1:{running.grpc_port}")
    tls = Tls(key, cert, custom_ca=cert, client_verify=True)
    with start(ServerConfig(models, grpc_port=0, grpc=GrpcTransport(tls=tls))) as running:
        with pytest.raises(grpc.RpcError):
            over_grpc(f"127.0.0.1:{running.grpc_port}", trusting)
        known = grpc.ssl_channel_credentials(cert.encode(), key.encode(), cert.encode())
        assert over_grpc(f"127.0.0.1:{running.grpc_port}", known) == 1000


def pinged(port: int, deadline_s: float) -> grpc.StatusCode:
    """How a long call ends whose client pings ten times a second: by its own deadline, unless it is sent away."""
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    request = PredictRequest(model_spec=ModelSpec(name="m", signature_name="spin"))
    request.inputs["steps"].dtype = 9
    request.inputs["steps"].int64_val.append(10**12)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel, pytest.raises(grpc.RpcError) as ended:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=deadline_s)
    return ended.value.code()


def test_a_client_that_pings_is_not_sent_away_unless_the_channel_arguments_say_so(serving, publish):
    base = publish(1)
    with serving(ModelSettings("m", str(base))) as client:
        assert pinged(client.running.grpc_port, 2) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert answering_version(client) == 1
    strict = (("grpc.http2.max_ping_strikes", 1), ("grpc.http2.min_recv_ping_interval_without_data_ms", 300_000))
    with serving(ModelSettings("m", str(base)), grpc=GrpcTransport(channel_arguments=strict)) as client:
        assert pinged(client.running.grpc_port, 60) is grpc.StatusCode.UNAVAILABLE


def headers(client, method: str, origin: str | None) -> tuple[int, dict[str, str]]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)) as connection:
        connection.request(method, "/v1/models/m", headers={"Origin": origin} if origin else {})
        response = connection.getresponse()
        response.read()
        return response.status, dict(response.getheaders())


@pytest.mark.parametrize("cors", [False, True])
def test_pages_of_other_origins_may_read_answers_where_that_is_allowed(serving, publish, cors):
    with serving(ModelSettings("m", str(publish(1))), rest=RestTransport(cors=cors)) as client:
        for method, origin, expected in [
            ("GET", "https://page.example", 200),
            ("OPTIONS", "https://page.example", 200),
            ("OPTIONS", None, 400),
        ]:
            status, sent = headers(client, method, origin)
            assert status == expected
            assert (sent.get("Access-Control-Allow-Origin") == "*") == cors


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that the environment names; the connections that it got."""
    got: list[socket.socket] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    got.append(listening.accept()[0])
                    got[-1].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.upper(), address)
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield got
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_loopback_never_goes_through_a_proxy(serving, publish, proxy):
    with serving(ModelSettings("m", str(publish(1)))) as client:
        port = client.running.grpc_port
        with pytest.raises(grpc.RpcError):
            over_grpc(f"127.0.0.1:{port}")  # gRPC by itself asks the proxy
        assert proxy
        proxy.clear()
        assert validation.call_by_grpc("m", port)("serving_default", {"x": np.zeros(1, np.float32)})["y"] == [1000]
        url = f"http://127.0.0.1:{client.rest_port}/v1/models/m"
        with loopback.direct_opener().open(url, timeout=20) as answer:
            assert answer.status == 200
        assert not proxy


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:8500", True), ("LOCALHOST", True), ("127.0.0.1:8500", True), ("127.8.9.1", True),
        ("[::1]:8500", True), ("::1", True), ("unix:/tmp/socket", True), ("10.0.0.1:8500", False),
        ("[2001:db8::1]:8500", False),
        ("models.example:8500", False), ("localhost.example:8500", False), ("0.0.0.0:8500", False),
    ],
)  # fmt: skip
def test_what_counts_as_loopback(address, expected):
    assert loopback.is_loopback(address) is expected
