"""A whole table, from its files to Examples and rejects on disk."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from components.artifacts import WriteRecords
from components.config import TableConfig
from components.contract import Column
from components.examples import row_example
from components.rejects import WriteRejects
from components.tables.duplicates import DropCopies, KeepFirst
from components.tables.readers import ReadTable, Row, TableFacts

DEFAULT_EVENT = "play"  # what an event is that does not say what it is


class TableToExamples(beam.PTransform):
    """Pipeline → Examples in `examples_uri`, rejects and summary in `rejects_uri`.

    Catalogue and users keep one row an id (`KeepFirst`), events lose exact copies (`DropCopies`); the summary counts copies.
    """

    def __init__(
        self,
        name: str,
        table: TableConfig,
        columns: tuple[Column, ...],
        facts: TableFacts,
        examples_uri: str,
        rejects_uri: str,
    ):
        super().__init__()
        self._name, self._table, self._columns, self._facts = name, table, columns, facts
        self._examples_uri, self._rejects_uri = examples_uri, rejects_uri

    def expand(self, pipeline: beam.Pipeline) -> Any:
        columns = self._columns
        read = pipeline | "ReadTable" >> ReadTable(self._table, columns, self._facts)
        if self._name == "events":
            named = read.rows | "NameEvents" >> beam.Map(with_event)
            kept = named | "SerializeRows" >> beam.Map(serialized, columns) | "DropCopies" >> DropCopies()
            records, rejects = kept.records, [read.rejects]
        else:
            kept = read.rows | "KeepFirst" >> KeepFirst(columns[0].name)
            records, rejects = (
                kept.rows | "SerializeRows" >> beam.Map(serialized, columns),
                [read.rejects, kept.rejects],
            )
        _ = records | "WriteRecords" >> WriteRecords(self._examples_uri)
        return {
            "accepted": records,
            "rejects": rejects | "JoinRejects" >> beam.Flatten(),
            "exact_copies": kept.copies,
        } | "WriteRejects" >> WriteRejects(self._rejects_uri, self._facts.notes)


def serialized(row: Row, columns: tuple[Column, ...]) -> bytes:
    """The row as a serialized Example: equal values give equal bytes."""
    return row_example(row.values, columns).SerializeToString(deterministic=True)


def with_event(row: Row) -> Row:
    """The row with its kind of event, `play` where the table does not say."""
    return row._replace(values={**row.values, "event": row.values.get("event", DEFAULT_EVENT)})
