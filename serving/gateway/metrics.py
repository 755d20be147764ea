"""Prometheus metrics of a gateway. docs/service.md lists their names."""

from __future__ import annotations

from contextvars import ContextVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_OWN_SECONDS = (*(step / 2000 for step in range(1, 13)), 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)

at_model_s: ContextVar[float] = ContextVar("at_model_s", default=0.0)  # of the request that is being answered


class Metrics:
    """One registry a gateway, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("zhiyin_gateway_requests", "Requests", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram(
            "zhiyin_gateway_request_seconds", "Time to the answer", ["route"], registry=registry, buckets=_SECONDS
        )
        self.model_seconds = Histogram(
            "zhiyin_gateway_model_seconds",
            "Time at the model server, with the wait for a call",
            ["signature"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.own_seconds = Histogram(
            "zhiyin_gateway_own_seconds",
            "Time to an answer for which the model was asked, less that at the model server",
            ["route"],
            registry=registry,
            buckets=_OWN_SECONDS,
        )
        self.store_seconds = Histogram(
            "zhiyin_gateway_store_seconds", "Time in the store", ["call"], registry=registry, buckets=_SECONDS
        )
        self.degraded = Counter(
            "zhiyin_gateway_degraded",
            "Answers that are not the model's own",
            ["answered_by", "cause"],
            registry=registry,
        )
        self.events = Counter("zhiyin_gateway_events", "Events by outcome", ["outcome"], registry=registry)
        self.exposures_lost = Counter(
            "zhiyin_gateway_exposures_lost", "Lists shown that were not logged", registry=registry
        )
        self.refused = Counter("zhiyin_gateway_refused", "Requests refused", ["reason"], registry=registry)
        self.in_flight = Gauge("zhiyin_gateway_in_flight", "Lists under way now", registry=registry)
        self.in_flight_bound = Gauge("zhiyin_gateway_in_flight_bound", "Lists under way at most", registry=registry)
        self.loop_lag_seconds = Gauge(
            "zhiyin_gateway_loop_lag_seconds", "What a turn of the event loop waits", registry=registry
        )
        self.breaker_open = Gauge("zhiyin_gateway_breaker_open", "1 while the model is left alone", registry=registry)
        self.items = Gauge("zhiyin_gateway_items", "Items known", registry=registry)
        self.model_version = Gauge("zhiyin_gateway_model_version", "Newest version seen", registry=registry)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
