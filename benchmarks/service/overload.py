"""More load than the service can take: how fast it refuses, what it still answers, and how soon it is normal again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import uvloop

from benchmarks.service.generator import REFUSALS, Generator, Outcome, items_of, quantile_ms
from benchmarks.service.load import USERS
from benchmarks.service.parts import Service

RATES = (25, 50, 75, 100, 125, 150, 200, 250, 300, 400, 500)  # requests a second, tried in this order
STEP_S = 8.0  # of each
P99_MS, MOST_BAD = 100.0, 0.005  # a rate is sustained below this p99, with no more than this share of bad outcomes
TIMES = 3.0  # the overload: so many times the sustainable rate
AFTER_S = 15.0
WINDOW_S = 1.0


def measure(service: Service, seconds: float) -> dict[str, float | None]:
    """Find the sustainable rate, send three times that, then the sustainable rate again."""
    return uvloop.run(_measure(service, seconds))


async def _measure(service: Service, seconds: float) -> dict[str, float | None]:
    items = await items_of(service.urls[0])
    async with Generator(service.urls, USERS, items) as generator:
        await generator.run(RATES[0], STEP_S)  # connections and caches
        rate = await _sustainable(generator)
        under = await generator.run(TIMES * rate, seconds)
        ended = time.monotonic()
        after = await generator.run(rate, AFTER_S)
    refused = [one for one in under if one.status in REFUSALS]
    good = [one for one in under if one.is_good]
    return {
        "sustainable_rps": rate,
        "offered_rps": len(under) / seconds,
        "refused_share": len(refused) / len(under),
        "refusal_p50_ms": quantile_ms(refused, 0.5),
        "refusal_p99_ms": quantile_ms(refused, 0.99),
        "goodput_rps": len(good) / seconds,
        "goodput_share": len(good) / seconds / rate,
        "goodput_p99_ms": quantile_ms(good, 0.99),
        "degraded_share": sum(one.is_degraded for one in under) / len(under),
        "unanswered": sum(one.status == 0 for one in under),
        "failed": sum(one.status not in (0, 200, *REFUSALS) for one in under),
        "seconds_to_normal": seconds_to_normal(after, ended),
    }


async def _sustainable(generator: Generator) -> float:
    """The highest rate that is sustained; the lowest one that is tried where none is."""
    best = float(RATES[0])
    for rate in RATES:
        if not is_sustained(await generator.run(rate, STEP_S)):
            break
        best = float(rate)
    await asyncio.sleep(WINDOW_S)
    return best


def is_sustained(outcomes: Sequence[Outcome]) -> bool:
    """Whether answers came in time, nearly all of them the model's."""
    num_bad = sum(not one.is_good for one in outcomes)
    return num_bad <= MOST_BAD * len(outcomes) and (quantile_ms(outcomes, 0.99) or 0.0) <= P99_MS


def seconds_to_normal(outcomes: Sequence[Outcome], since: float) -> float | None:
    """Until the first window of a second that is sustained; None where there is none."""
    start = since
    while start + WINDOW_S <= max(one.due for one in outcomes):
        window = [one for one in outcomes if start <= one.due < start + WINDOW_S]
        if window and is_sustained(window):
            return start - since
        start += WINDOW_S / 4
    return None
