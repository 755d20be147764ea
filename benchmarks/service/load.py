"""The mixed load: what each kind of request takes, and what of it is the gateway's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import uvloop

from benchmarks.service.generator import (
    EVENT,
    MIX,
    REFUSALS,
    Generator,
    Outcome,
    items_of,
    metrics_of,
    quantile_ms,
)
from benchmarks.service.parts import Service

RATE = 100.0  # requests a second
WARM_S = 5.0
USERS = [f"u{number:04}" for number in range(500)]  # of the demo
_BUCKET = re.compile(r'le="([^"]+)"')


def measure(service: Service, seconds: float) -> dict[str, float | None]:
    """The metrics of one setup under the mixed load."""
    return uvloop.run(_measure(service, seconds))


async def _measure(service: Service, seconds: float) -> dict[str, float | None]:
    items = await items_of(service.urls[0])
    async with Generator(service.urls, USERS, items) as generator:
        await generator.run(RATE / 4, WARM_S)  # connections and caches
        before = await metrics_of(service.urls)
        outcomes = await generator.run(RATE, seconds)
        after = await metrics_of(service.urls)
    gained = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return {**summary(outcomes), **own_share(gained)}


def summary(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """p50 and p99 of each kind, errors and what of them was refused or not answered, degraded answers."""
    found: dict[str, float | None] = {"requests": len(outcomes)}
    for kind in MIX:
        of_kind = [one for one in outcomes if one.kind == kind]
        found |= {f"p50_ms_{kind}": quantile_ms(of_kind, 0.5), f"p99_ms_{kind}": quantile_ms(of_kind, 0.99)}
    return {
        **found,
        "p99_ms": quantile_ms(outcomes, 0.99),
        "errors": sum(one.status != 200 for one in outcomes),
        "refused": sum(one.status in REFUSALS for one in outcomes),
        "unanswered": sum(one.status == 0 for one in outcomes),
        "degraded": sum(one.is_degraded for one in outcomes if one.kind != EVENT),
    }


def own_share(gained: Mapping[str, float]) -> dict[str, float | None]:
    """A list's time in the gateway less its time at the model server, of each request, from the gateways' own metrics.

    gained: what the metrics grew by. The median is linear within its bucket of half a millisecond.
    """
    route, name = 'route="/v1/users/{user_id}/recommendations"', "zhiyin_gateway_own_seconds"
    count = gained.get(f"{name}_count{{{route}}}", 0.0)
    if not count:
        return {"own_mean_ms": None, "own_p50_ms": None}
    seconds = gained[f"{name}_sum{{{route}}}"]
    return {"own_mean_ms": 1000 * seconds / count, "own_p50_ms": 1000 * median_s(gained, name, route)}


def median_s(gained: Mapping[str, float], name: str, labels: str) -> float:
    """The median of a histogram, linear within its bucket."""
    buckets = sorted(
        (float(_BUCKET.search(key)[1]), value)  # type: ignore[index]
        for key, value in gained.items()
        if key.startswith(f"{name}_bucket{{") and labels in key
    )
    half, lower_s, below = buckets[-1][1] / 2, 0.0, 0.0
    for upper_s, up_to in buckets:
        if up_to >= half and up_to > below:
            return lower_s + (upper_s - lower_s) * (half - below) / (up_to - below)
        lower_s, below = upper_s, up_to
    raise ValueError(f"{name}: nothing was counted")
