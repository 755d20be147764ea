"""Loads the online service: open-loop mixed load, event to effect, kills under load, overload.

    .venv/bin/python -m benchmarks.service --url http://127.0.0.1:8080 --rate 100 --seconds 600

The generator sends at set times whether or not answers have come (an open loop), so that a slow service cannot slow its
own load down.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

MIX = (("recommend", 0.80), ("event", 0.15), ("similar", 0.05))
KINDS = ("play", "like", "complete", "skip")
TIMEOUT_S = 10.0


@dataclass
class Outcome:
    """What became of the requests of one kind."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)
    degraded: int = 0

    def row(self) -> dict[str, Any]:
        """Numbers for the table."""
        ordered = sorted(self.latencies_ms)
        at = lambda share: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2) if ordered else None  # noqa: E731
        return {
            "requests": sum(self.statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items(), key=str)},
            "degraded": self.degraded,
            "p50_ms": at(0.50),
            "p95_ms": at(0.95),
            "p99_ms": at(0.99),
            "max_ms": at(1.0),
        }


class Generator:
    """Sends requests at a rate, each on time."""

    def __init__(self, urls: list[str], users: list[str], items: list[str], token: str, seed: int = 0) -> None:
        """urls: of one or more gateways, taken in turn."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=500)
        self._clients = itertools.cycle(
            [
                httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=TIMEOUT_S, trust_env=False)
                for url in urls
            ]
        )
        self._users, self._items, self._random = users, items, random.Random(seed)
        self._numbers = itertools.count()
        self._run_id = f"{time.time_ns():x}"
        self.acknowledged: list[tuple[str, str]] = []  # user and event ids

    async def run(self, rate: float, seconds: float) -> dict[str, Outcome]:
        """Poisson arrivals at `rate` a second."""
        outcomes = {name: Outcome() for name, _ in MIX}
        tasks, due, end = set(), time.monotonic(), time.monotonic() + seconds
        while due < end:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            (kind,) = self._random.choices([name for name, _ in MIX], [share for _, share in MIX])
            task = asyncio.create_task(self._send(kind, due, outcomes[kind]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += self._random.expovariate(rate)
        await asyncio.gather(*tasks)
        return outcomes

    async def _send(self, kind: str, due: float, outcome: Outcome) -> None:
        client = next(self._clients)
        user, item = self._random.choice(self._users), self._random.choice(self._items)
        try:
            if kind == "recommend":
                response = await client.get(f"/v1/users/{user}/recommendations")
            elif kind == "similar":
                response = await client.get(f"/v1/items/{item}/similar")
            else:
                response = await self._post_event(client, user, item)
        except httpx.TransportError as error:
            outcome.statuses[type(error).__name__] += 1
            return
        outcome.latencies_ms.append(1000 * (time.monotonic() - due))
        outcome.statuses[response.status_code] += 1
        outcome.degraded += response.status_code == 200 and kind != "event" and response.json()["degraded"] is not None

    async def _post_event(self, client: httpx.AsyncClient, user: str, item: str) -> httpx.Response:
        event_id = f"load-{self._run_id}-{next(self._numbers)}"
        event = {"user_id": user, "item_id": item, "event": self._random.choice(KINDS), "event_id": event_id}
        response = await client.post("/v1/events", json=event)
        if response.status_code == 200:
            self.acknowledged.append((user, event_id))
        return response


async def event_to_effect(url: str, items: list[str], times: int, token: str) -> dict[str, Any]:
    """A like, then the next answer: how often it counted, and the milliseconds from the acknowledgement to that
    answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    counted, milliseconds = 0, []
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        for number in range(times):
            user = f"effect-{time.time_ns():x}-{number}"
            before = (await client.get(f"/v1/users/{user}/recommendations")).json()
            liked = before["items"][number % len(before["items"])]["item_id"] if before["items"] else items[0]
            await client.post("/v1/events", json={"user_id": user, "item_id": liked, "event": "like"})
            acknowledged = time.monotonic()
            after = (await client.get(f"/v1/users/{user}/recommendations")).json()
            milliseconds.append(1000 * (time.monotonic() - acknowledged))
            ids = [item["item_id"] for item in after["items"]]
            counted += liked not in ids and ids != [item["item_id"] for item in before["items"]]
    ordered = sorted(milliseconds)
    return {
        "times": times,
        "counted": counted,
        "p50_ms": round(ordered[times // 2], 2),
        "max_ms": round(ordered[-1], 2),
    }


async def kills(url: str, generator: Generator, pid_of: dict[str, Any], times: int, rate: float) -> dict[str, Any]:
    """kill -9 of each part in turn at random moments under load; then every acknowledged event is read back.

    pid_of: part -> a function that finds its process now. Whoever started the parts starts them again.
    """
    chance, rows = random.Random(1), {}
    for part, find in pid_of.items():
        begun = len(generator.acknowledged)
        load = asyncio.create_task(generator.run(rate, times * 12.0))
        for _ in range(times):
            await asyncio.sleep(chance.uniform(3, 9))
            if (pid := find()) is not None:
                os.kill(pid, signal.SIGKILL)
        outcomes = await load
        rows[part] = {name: outcome.row() for name, outcome in outcomes.items()}
        rows[part]["acknowledged"] = len(generator.acknowledged) - begun
    rows["lost"], rows["twice"] = await _lost(url, generator.acknowledged)
    return rows


async def _lost(url: str, acknowledged: list[tuple[str, str]]) -> tuple[int, int]:
    """Acknowledged events that are not read back, and those that are more than once."""
    stored: Counter = Counter()
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
        for user in {user for user, _ in acknowledged}:
            cursor: str | None = "0"
            while cursor is not None:
                page = (await client.get(f"/v1/users/{user}/data", params={"cursor": cursor})).json()
                stored.update(event["event_id"] for event in page["events"])
                cursor = page["next_cursor"]
    return sum(stored[one] == 0 for _, one in acknowledged), sum(stored[one] > 1 for _, one in acknowledged)


def child_of_service(port: int, what: str) -> int | None:
    """The process id of the service's own model server or gateway, found by its command line."""
    marks = {"gateway": "serving.gateway", "model server": "serving.model_server"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if marks[what] in command and (what != "model server" or f"--port={port}" in command):
            return int(folder.name)
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the measurements against a service that `zhiyin up` has started; prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", required=True, help="of a gateway; several are taken in turn")
    parser.add_argument("--token", default="", help="an API key, where the service needs one")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second (default 100)")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the mixed load (default 600)")
    parser.add_argument("--overload", type=float, default=0.0, help="afterwards, for 30 s, so many times the rate")
    parser.add_argument("--effects", type=int, default=1000, help="likes whose effect is looked for (default 1000)")
    parser.add_argument("--kills", type=int, default=0, help="times that gateway and model server are each killed")
    parser.add_argument("--model-port", type=int, default=0, help="of the model server, to find its process")
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args(argv)
    results = asyncio.run(_measure(arguments))
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {arguments.token}"} if arguments.token else {}
    async with httpx.AsyncClient(base_url=arguments.url[0], headers=headers, trust_env=False) as client:
        items = [item["item_id"] for item in (await client.get("/v1/items", params={"limit": 1000})).json()["items"]]
    users = [f"u{number:04}" for number in range(500)]
    generator = Generator(arguments.url, users, items, arguments.token)
    await generator.run(arguments.rate / 4, 5)  # connections and caches
    results: dict[str, Any] = {"rate": arguments.rate, "seconds": arguments.seconds, "gateways": len(arguments.url)}
    outcomes = await generator.run(arguments.rate, arguments.seconds)
    results["mixed"] = {name: outcome.row() for name, outcome in outcomes.items()}
    if arguments.overload:
        outcomes = await generator.run(arguments.overload * arguments.rate, 30)
        results["overload"] = {name: outcome.row() for name, outcome in outcomes.items()}
        outcomes = await generator.run(arguments.rate, 10)
        results["after overload"] = {name: outcome.row() for name, outcome in outcomes.items()}
    if arguments.effects:
        results["event to effect"] = await event_to_effect(arguments.url[0], items, arguments.effects, arguments.token)
    if arguments.kills:
        parts = {
            part: (lambda part=part: child_of_service(arguments.model_port, part))
            for part in ("gateway", "model server")
        }
        results["kills"] = await kills(arguments.url[0], generator, parts, arguments.kills, arguments.rate / 4)
    return results


if __name__ == "__main__":
    raise SystemExit(main())
