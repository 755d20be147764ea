"""Spans reach a real OTLP endpoint; metrics count what happened."""

import http.server
import json
import re
import threading
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.serving.gateway import running

ROOT = Path(__file__).parents[3]
DASHBOARD, DOCUMENT = ROOT / "deploy" / "grafana" / "zhiyin.json", ROOT / "docs" / "service.md"
NAME, HISTOGRAM = re.compile(r"zhiyin_\w+"), ("bucket", "sum", "count")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans as an OpenTelemetry collector does."""

    spans: list = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        self.spans.extend(span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Quiet."""


def test_a_callers_trace_goes_through_to_the_model_server(model_server, tmp_path):
    server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store = tmp_path / "store.sqlite"
    running.fill(store)
    endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    gateway = running.Gateway(
        tmp_path / "process", running.settings(model_server, store, traces_endpoint=endpoint), {"NO_PROXY": "127.0.0.1"}
    )
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    gateway.http.get("/v1/users/someone/recommendations", headers=headers).raise_for_status()
    gateway.stop()
    server.shutdown()
    server.server_close()
    spans = {span.name: span for span in Collector.spans if span.trace_id.hex() == TRACE}
    assert {"GET", "store.user_state", "model.recommend"} <= set(spans)
    assert spans["GET"].parent_span_id.hex() == PARENT
    assert spans["model.recommend"].parent_span_id == spans["GET"].span_id
    assert not any(b"someone" in span.SerializeToString() for span in Collector.spans)


def test_metrics_count_requests_events_and_seconds(gateway):
    gateway.recommend("counted")
    gateway.post({"user_id": "counted", "item_id": "i1"}, {"user_id": "counted"})
    text = gateway.http.get("/metrics").text
    route = "/v1/users/{user_id}/recommendations"
    assert f'zhiyin_gateway_requests_total{{method="GET",route="{route}",status="200"}} 1.0' in text
    assert 'zhiyin_gateway_events_total{outcome="accepted"} 1.0' in text
    assert 'zhiyin_gateway_events_total{outcome="refused"} 1.0' in text
    assert 'zhiyin_gateway_model_seconds_count{signature="recommend"} 1.0' in text
    assert f"zhiyin_gateway_items {running.NUM_ITEMS}.0" in text
    assert "zhiyin_gateway_model_version 1.0" in text


def test_what_the_gateway_takes_itself_is_the_answer_less_the_model(gateway):
    """Of each request, several over one connection too; none of those for which no model was asked."""
    for _ in range(3):
        gateway.recommend("timed")
    gateway.http.get("/health/live")
    text = gateway.http.get("/metrics").text
    of_lists = r"^zhiyin_gateway_{}_seconds_{}.*recommend.* (\S+)$"
    own, answers, model = (
        [float(re.findall(of_lists.format(part, value), text, re.MULTILINE)[0]) for value in ("sum", "count")]
        for part in ("own", "request", "model")
    )
    assert own[1] == answers[1] == model[1] >= 3
    assert own[0] == pytest.approx(answers[0] - model[0])
    assert "/health/live" in text
    assert 'own_seconds_count{route="/health/live"}' not in text


def test_every_metric_of_the_dashboard_is_one_that_a_gateway_exports(gateway):
    exported = {}
    for line in gateway.http.get("/metrics").text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            exported |= dict.fromkeys([name] if kind != "histogram" else [f"{name}_{one}" for one in HISTOGRAM], kind)
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert all(map(NAME.search, expressions)), "each panel shows something of ours"
    used = {name for expression in expressions for name in NAME.findall(expression)}
    assert used <= set(exported)
    ours = {
        name for name in exported if name.startswith("zhiyin_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert ours <= used, "and nothing that is exported is left out"


def test_the_documents_name_every_metric(gateway):
    text = DOCUMENT.read_text(encoding="utf-8")
    types = [
        line.split() for line in gateway.http.get("/metrics").text.splitlines() if line.startswith("# TYPE zhiyin_")
    ]
    assert types
    assert [name for _, _, name, _ in types if f"`{name}`" not in text and not name.endswith("_created")] == []
