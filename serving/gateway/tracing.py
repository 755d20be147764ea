"""OpenTelemetry spans from the gateway to the model server; off unless an endpoint is configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class Tracing:
    """Makes spans; without a processor they cost nothing and go nowhere."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        self._provider: trace.TracerProvider = trace.NoOpTracerProvider()
        if processor is not None:
            provider = TracerProvider(resource=Resource.create({"service.name": "zhiyin-gateway"}))
            provider.add_span_processor(processor)
            self._provider = provider
        self._tracer = self._provider.get_tracer("zhiyin.gateway")

    @contextmanager
    def span(
        self, name: str, kind: trace.SpanKind = trace.SpanKind.INTERNAL, **attributes: str | int
    ) -> Iterator[None]:
        """A span around a block."""
        with self._tracer.start_as_current_span(name, kind=kind, attributes=attributes):
            yield

    @contextmanager
    def request(self, name: str, headers: dict[str, str]) -> Iterator[None]:
        """The span of a request, a child of the caller's where the headers name one (W3C trace context)."""
        parent = propagate.extract(headers)
        with self._tracer.start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER):
            yield

    def close(self) -> None:
        """Send what waits."""
        if isinstance(self._provider, TracerProvider):
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
