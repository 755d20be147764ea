"""OpenTelemetry spans from the gateway to the model server; off unless an endpoint is configured."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class Tracing:
    """Makes spans; without a processor they cost nothing and go nowhere."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        self._provider: TracerProvider | None = None
        if processor is not None:
            self._provider = TracerProvider(resource=Resource.create({"service.name": "zhiyin-gateway"}))
            self._provider.add_span_processor(processor)
            self._tracer = self._provider.get_tracer("zhiyin.gateway")

    def span(self, name: str) -> AbstractContextManager[Any]:
        """A span around a block."""
        return self._tracer.start_as_current_span(name) if self._provider else nullcontext()

    def request(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
        """The span of a request, a child of the caller's where the headers name one (W3C trace context)."""
        if self._provider is None:
            return nullcontext()
        parent = propagate.extract(headers)
        return self._tracer.start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER)

    def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            self._provider.shutdown()


def outgoing() -> tuple[tuple[str, str], ...]:
    """gRPC metadata that lets the model server's spans join the current one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())


def tracing_to(endpoint: str) -> Tracing:
    """Spans to an OTLP endpoint over HTTP; off where it is empty."""
    if not endpoint:
        return Tracing()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
