"""The dashboard: what the service did, what it holds, how its experiments stand; and the page of the API."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from serving.gateway.metrics import Metrics
from serving.gateway.page.rendering import render
from serving.gateway.page.session import PersonOf, page_permitted
from serving.gateway.problems import Problem
from serving.gateway.routes.dependencies import ServiceOf
from serving.gateway.routes.experiments import readout_of
from serving.gateway.service import Service

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
SAMPLES = 120  # looks that the trend holds
LISTS = re.compile("recommendations|similar")
LIST_PAGES = ("/", "/page/list", "/page/events")  # pages that show a list
TREND_WIDTH, TREND_HEIGHT = 600, 96


class Sample(NamedTuple):
    """Counters at one moment."""

    time_s: float
    requests: float
    events: float


class RouteRow(NamedTuple):
    """One route's share in the load."""

    route: str
    requests: int
    errors: int
    median_ms: float
    p99_ms: float


class Trend:
    """Requests and events a second between looks at the dashboard."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    def look(self, sample: Sample) -> None:
        """Take in a moment; two within half a second are one."""
        if not self._samples or sample.time_s - self._samples[-1].time_s > 0.5:
            self._samples.append(sample)

    def rates(self) -> list[tuple[float, float]]:
        """(requests, events) a second, the oldest first."""
        found = []
        samples = list(self._samples)
        for before, after in zip(samples, samples[1:]):
            seconds = after.time_s - before.time_s
            found.append(((after.requests - before.requests) / seconds, (after.events - before.events) / seconds))
        return found

    def path(self) -> tuple[str, float]:
        """The requests a second as an SVG path of 600 x 96, and the largest of them."""
        values = [requests for requests, _ in self.rates()]
        largest = max(values, default=0.0)
        if len(values) < 2 or not largest:
            return "", largest
        points = [
            f"{TREND_WIDTH * place / (len(values) - 1):.1f} "
            f"{TREND_HEIGHT - 4 - (TREND_HEIGHT - 12) * value / largest:.1f}"
            for place, value in enumerate(values)
        ]
        return "M" + "L".join(points), largest


@router.get("/dashboard", response_model=None)
async def dashboard(request: Request, service: ServiceOf, person: PersonOf) -> Response:
    """The whole page."""
    try:
        await service.access.check(request.cookies.get("zy_key"), "admin")
    except Problem:
        return render(request, "sign_in.html", people=[], choices=[], needs_key=True, num_likes=0, person=person)
    return render(request, "dashboard.html", person=person, **await _facts(request, service))


@router.get("/page/dashboard", dependencies=page_permitted("admin"))
async def numbers(request: Request, service: ServiceOf) -> Response:
    """The part that is renewed every few seconds."""
    return render(request, "numbers.html", **await _facts(request, service))


@router.get("/docs")
async def api(request: Request, person: PersonOf) -> Response:
    """The API in words, from its own OpenAPI document."""
    schema = request.app.openapi()
    calls = [
        (method.upper(), path, operation)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    return render(request, "api.html", person=person, title=schema["info"]["title"], calls=calls)


async def _facts(request: Request, service: Service) -> dict[str, Any]:
    """What the templates show."""
    routes, samples = route_rows(service.metrics), _samples(service.metrics)
    trend: Trend = request.app.state.trend
    trend.look(Sample(time.monotonic(), sum(row.requests for row in routes), samples["zhiyin_gateway_events_total"]))
    line, largest = trend.path()
    store_is_well, version = await service.health()
    lists = sum(row.requests for row in routes if LISTS.search(row.route) or row.route in LIST_PAGES)
    degraded = samples["zhiyin_gateway_degraded_total"]
    return {
        "routes": routes,
        "line": line,
        "largest": largest,
        "store_is_well": store_is_well,
        "version": version,
        "breaker_is_open": service.answers.breaker.is_open,
        "lists": lists,
        "degraded": degraded,
        "degraded_share": degraded / lists if lists else 0.0,
        "causes": _by_labels(service.metrics, "zhiyin_gateway_degraded_total"),
        "outcomes": _by_labels(service.metrics, "zhiyin_gateway_events_total"),
        "refusals": _by_labels(service.metrics, "zhiyin_gateway_refused_total"),
        "catalogue": catalogue_rows(service),
        "num_events": await service.read(service.store.num_events()),
        "experiments": [await readout_of(service, name) for name in service.settings.gateway.experiments],
    }


def route_rows(metrics: Metrics) -> list[RouteRow]:
    """Requests, errors and quantiles by route, the busiest first; quantiles are interpolated within the histogram's
    buckets."""
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    buckets: dict[str, list[tuple[float, float]]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            route = sample.labels.get("route", "")
            if sample.name == "zhiyin_gateway_requests_total":
                counts[route] += int(sample.value)
                errors[route] += int(sample.value) if sample.labels["status"].startswith("5") else 0
            elif sample.name == "zhiyin_gateway_request_seconds_bucket":
                buckets.setdefault(route, []).append((float(sample.labels["le"]), sample.value))
    return [
        RouteRow(route, count, errors[route], *(1000 * quantile(buckets.get(route, []), at) for at in (0.5, 0.99)))
        for route, count in counts.most_common()
    ]


def quantile(buckets: list[tuple[float, float]], at: float) -> float:
    """The value below which the share `at` of a cumulative histogram lies; the last finite bound where it lies beyond.

    buckets: (upper bound, count at or below it), ascending.
    """
    total = buckets[-1][1] if buckets else 0
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= at * total and count > below:
            return lower if upper == float("inf") else lower + (upper - lower) * (at * total - below) / (count - below)
        lower, below = upper, count
    return 0.0


def catalogue_rows(service: Service) -> list[tuple[str, int, int, int]]:
    """(domain, items shown, of those with a medium, withdrawn) by domain."""
    rows: dict[str, list[int]] = {}
    for item in service.catalog.items():
        row = rows.setdefault(str(item.fields.get("domain") or "none"), [0, 0, 0])
        row[0] += not item.is_withdrawn
        row[1] += bool(item.fields.get("media_uri")) and not item.is_withdrawn
        row[2] += item.is_withdrawn
    return [(domain, *row) for domain, row in sorted(rows.items())]  # type: ignore[misc]


def _samples(metrics: Metrics) -> Counter[str]:
    totals: Counter[str] = Counter()
    for family in metrics.registry.collect():
        for sample in family.samples:
            totals[sample.name] += sample.value  # type: ignore[assignment]
    return totals


def _by_labels(metrics: Metrics, name: str) -> list[tuple[str, int]]:
    return [
        (", ".join(sample.labels.values()), int(sample.value))
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    ]
