"""An open-loop load on a model server, in a process of its own: requests leave on schedule whatever became of the
earlier ones.

A latency counts from the moment at which its request was due, so that a server that falls behind is seen to
(coordinated omission). `python -m benchmarks.serving.load HOST:PORT MODEL REQUESTS RATE SECONDS` prints one JSON
object; REQUESTS is a file of PredictRequests, each after its length in four bytes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import sys
import time
from pathlib import Path

import grpc

from serving.loopback import grpc_options

METHOD = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT_S = 5.0
WARM_UP_S = 2.0  # not counted


def read_requests(path: Path) -> list[bytes]:
    """The serialized requests of a file."""
    data, requests, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        requests.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return requests


def write_requests(path: Path, requests: list[bytes]) -> None:
    """As `read_requests` reads them."""
    path.write_bytes(b"".join(struct.pack("<I", len(request)) + request for request in requests))


async def load(address: str, requests: list[bytes], rate: float, seconds: float) -> dict[str, float]:
    """Latencies of `rate` requests a second for some seconds after the warm-up, and how many failed."""
    latencies: list[float] = []
    errors: dict[str, int] = {}
    async with grpc.aio.insecure_channel(address, grpc_options(address)) as channel:
        call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        started = time.perf_counter() + 0.1

        async def one(number: int, due: float) -> None:
            try:
                await call(requests[number % len(requests)], timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                errors[error.code().name] = errors.get(error.code().name, 0) + 1
            if due - started >= WARM_UP_S:
                latencies.append(time.perf_counter() - due)

        tasks = []
        for number in range(int(rate * (seconds + WARM_UP_S))):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number, due)))
        await asyncio.gather(*tasks)
    latencies.sort()

    def percentile_ms(share: float) -> float:
        return 1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]

    percentiles = {f"p{int(share * 100)}_ms": percentile_ms(share) for share in (0.5, 0.95, 0.99)}
    by_code = {f"errors_{code}": count for code, count in errors.items()}
    return {**percentiles, "requests": len(latencies), "errors": sum(errors.values()), **by_code}


def main() -> None:
    """Run the load that the arguments name."""
    address, requests, rate, seconds = sys.argv[1:]
    gc.disable()
    print(json.dumps(asyncio.run(load(address, read_requests(Path(requests)), float(rate), float(seconds)))))


if __name__ == "__main__":
    main()
