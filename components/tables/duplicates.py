"""Repeated rows of a table: exact copies collapse, and of two rows that claim one id the first by file order stands."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from components.rejects import reject
from components.tables.readers import Row


class KeepFirst(beam.PTransform):
    """Rows → `rows` with each value of the column `key` once, `rejects` (duplicate_id, naming both lines) and `copies` (one int a row).

    The first row by file name and line stands; a later one that is equal in every column is a copy, any other a reject.
    """

    def __init__(self, key: str):
        super().__init__()
        self._key = key

    def expand(self, rows: beam.PCollection) -> Any:
        key = self._key
        return (
            rows
            | "KeyById" >> beam.Map(lambda row: (row.values[key], row))
            | "GroupById" >> beam.GroupByKey()
            | "KeepFirstOfId" >> beam.FlatMapTuple(_keep_first).with_outputs("rejects", "copies", main="rows")
        )


def _keep_first(name: str, rows: Iterable[Row]) -> Iterator[Any]:
    first, *others = sorted(rows, key=lambda row: (row.source, row.line))
    yield first
    for row in others:
        if row.values == first.values:
            yield beam.pvalue.TaggedOutput("copies", 1)
            continue
        differing = sorted(
            column for column in {*row.values, *first.values} if row.values.get(column) != first.values.get(column)
        )
        detail = f"{name!r}: line {row.line} contradicts line {first.line} of {first.source} in {', '.join(differing)}; the first one stands"
        yield beam.pvalue.TaggedOutput("rejects", reject("tables", row.source, row.line, name, "duplicate_id", detail))


class DropCopies(beam.PTransform):
    """Serialized examples → `records`, each once, and `copies` (a 1 for each that was dropped)."""

    def expand(self, records: beam.PCollection) -> Any:
        return (
            records
            | "CountCopies" >> beam.combiners.Count.PerElement()
            | "KeepOne" >> beam.FlatMapTuple(_keep_one).with_outputs("copies", main="records")
        )


def _keep_one(record: bytes, count: int) -> Iterator[Any]:
    yield record
    yield from itertools.repeat(beam.pvalue.TaggedOutput("copies", 1), count - 1)
