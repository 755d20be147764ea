"""Prometheus metrics under TF Serving's names (`:tensorflow:serving:...`)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_PREFIX = ":tensorflow:serving:"
_BUCKETS_US = tuple(10 * 1.8**step for step in range(33))  # 10 us to some 20 minutes, as the stock server has them


class Metrics:
    """Counts and latencies of the requests of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # A Counter would be called ..._total, which the stock server's is not.
        self._requests = Gauge(
            f"{_PREFIX}request_count",
            "The total number of requests.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            f"{_PREFIX}request_latency",
            "Distribution of wall time (in microseconds) of requests.",
            ["model_name", "API", "entrypoint"],
            buckets=_BUCKETS_US,
            registry=self._registry,
        )

    def observe(self, model_name: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """Count one finished request.

        api: Predict, Classify, ... entrypoint: GRPC or REST. status: a canonical code's name.
        """
        self._requests.labels(model_name, status).inc()
        self._latency.labels(model_name, api, entrypoint).observe(seconds * 1e6)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        name = f"{_PREFIX}request_count".encode()
        return generate_latest(self._registry).replace(b"# TYPE " + name + b" gauge", b"# TYPE " + name + b" counter")
