"""Events per moment, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam
import numpy as np

MAX_BUCKETS = 100_000


class _Counts(NamedTuple):
    shift: int  # times are divided by 2 ** shift
    buckets: np.ndarray  # int64, sorted
    numbers: np.ndarray  # int64, of events in each


class TimeHistogram(beam.CombineFn):
    """Times in seconds, one or an array of them an input → sorted list of (time, count).

    While there are at most MAX_BUCKETS distinct times, counts are exact per second. Beyond, times are rounded down to
    a power of two of seconds, the smallest that fits: this depends on the data alone and not on how the runner cut it
    up, so that every run gives the same.
    """

    def __init__(self, max_buckets: int = MAX_BUCKETS):
        self._max_buckets = max_buckets

    def create_accumulator(self) -> _Counts:
        return _Counts(0, np.zeros(0, np.int64), np.zeros(0, np.int64))

    def add_input(self, accumulator: _Counts, times_s: np.ndarray | int) -> _Counts:
        moments, numbers = np.unique(np.atleast_1d(np.asarray(times_s, np.int64)), return_counts=True)
        return self.merge_accumulators([accumulator, _Counts(0, moments, numbers)])

    def merge_accumulators(self, accumulators: Iterable[_Counts]) -> _Counts:
        gathered = [self.create_accumulator(), *accumulators]
        shift = max(counts.shift for counts in gathered)
        buckets = np.concatenate([counts.buckets >> (shift - counts.shift) for counts in gathered])
        numbers = np.concatenate([counts.numbers for counts in gathered])
        while True:
            merged, places = np.unique(buckets, return_inverse=True)
            if len(merged) <= self._max_buckets:
                return _Counts(shift, merged, np.bincount(places, numbers, len(merged)).astype(np.int64))
            shift, buckets = shift + 1, buckets >> 1

    def extract_output(self, accumulator: _Counts) -> list[tuple[int, int]]:
        moments = (accumulator.buckets << accumulator.shift).tolist()
        return list(zip(moments, accumulator.numbers.tolist()))
