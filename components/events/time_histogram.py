"""Events per moment, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import apache_beam as beam

MAX_BUCKETS = 100_000


class TimeHistogram(beam.CombineFn):
    """Times in seconds → sorted list of (time, count).

    While there are at most MAX_BUCKETS distinct times, counts are exact per second. Beyond, times are rounded down to
    a power of two of seconds, the smallest that fits: this depends on the data alone and not on how the runner cut it
    up, so that every run gives the same.
    """

    Accumulator = tuple[int, Counter]

    def __init__(self, max_buckets: int = MAX_BUCKETS):
        self._max_buckets = max_buckets

    def create_accumulator(self) -> Accumulator:
        return 0, Counter()

    def add_input(self, accumulator: Accumulator, time_s: int) -> Accumulator:
        shift, counts = accumulator
        counts[time_s >> shift] += 1
        return self._fitting(shift, counts)

    def merge_accumulators(self, accumulators: Iterable[Accumulator]) -> Accumulator:
        gathered = list(accumulators)
        shift = max((shift for shift, _ in gathered), default=0)
        total: Counter = Counter()
        for own_shift, counts in gathered:
            for bucket, count in counts.items():
                total[bucket >> (shift - own_shift)] += count
        return self._fitting(shift, total)

    def extract_output(self, accumulator: Accumulator) -> list[tuple[int, int]]:
        shift, counts = accumulator
        return sorted((bucket << shift, count) for bucket, count in counts.items())

    def _fitting(self, shift: int, counts: Counter) -> Accumulator:
        while len(counts) > self._max_buckets:
            coarser: Counter = Counter()
            for bucket, count in counts.items():
                coarser[bucket >> 1] += count
            shift, counts = shift + 1, coarser
        return shift, counts
