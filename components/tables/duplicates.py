"""Removes repeated rows: exact copies collapse, and of two rows that claim one id the first by file and line stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam

from components.rejects import reject
from components.tables.readers import STAGE, Row


class KeepFirst(beam.PTransform):
    """Keeps one row of each key: the first by file name and line.

    key: of a row; equal keys are the same thing. Rows → `rows`, `copies` (later rows that are equal in every column)
    and `rejects` (any other later row, duplicate_id, naming both lines).
    """

    def __init__(self, key: Callable[[Row], Any]):
        super().__init__()
        self._key = key

    def expand(self, rows: beam.PCollection) -> Any:
        key = self._key
        return (
            rows
            | "KeyRows" >> beam.Map(lambda row: (key(row), row))
            | "GroupByKey" >> beam.GroupByKey()
            | "KeepFirstOfKey" >> beam.FlatMapTuple(_keep_first).with_outputs("rejects", "copies", main="rows")
        )


def _keep_first(key: Any, rows: Iterable[Row]) -> Iterator[Any]:
    first, *others = sorted(rows, key=lambda row: (row.source, row.line))
    yield first
    for row in others:
        if row.values == first.values:
            yield beam.pvalue.TaggedOutput("copies", row)
        else:
            yield beam.pvalue.TaggedOutput("rejects", contradiction(key, row, first))


def contradiction(name: Any, row: Row, first: Row) -> dict[str, Any]:
    """The reject of a row that says something else than the first of its key. name: the key."""
    columns = sorted({*row.values, *first.values})
    differing = [column for column in columns if row.values.get(column) != first.values.get(column)]
    detail = (
        f"{name!r}: line {row.line} contradicts line {first.line} of {first.source} in {', '.join(differing)}; "
        "the first one stands"
    )
    return reject(STAGE, row.source, row.line, row.values.get("item_id"), "duplicate_id", detail)
