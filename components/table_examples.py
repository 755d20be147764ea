"""A whole table, from its files to Examples and rejects on disk."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from components.artifacts import WriteExamples, WriteRejects
from components.config import TableConfig
from components.contract import Column
from components.examples import row_example
from components.table_duplicates import DropCopies, KeepFirst
from components.tables import ReadTable, Row, TableFacts

DEFAULT_EVENT = "play"  # what an event is that does not say what it is


class TableToExamples(beam.PTransform):
    """Pipeline → Examples in `examples_uri`, rejects and summary in `rejects_uri`.

    Catalogue and users keep one row an id (`KeepFirst`), events lose exact copies (`DropCopies`); copies are counted in the summary's notes.
    """

    def __init__(
        self, name: str, table: TableConfig, columns: tuple[Column, ...], facts: TableFacts, examples_uri: str, rejects_uri: str
    ):
        super().__init__()
        self._name, self._table, self._columns, self._facts = name, table, columns, facts
        self._examples_uri, self._rejects_uri = examples_uri, rejects_uri

    def expand(self, pipeline: beam.Pipeline) -> Any:
        columns = self._columns
        read = pipeline | "ReadTable" >> ReadTable(self._table, columns, self._facts)
        rejects = [read.rejects]
        if self._name == "events":
            kept = read.rows | "NameEvents" >> beam.Map(with_event) | "DropCopies" >> DropCopies()
        else:
            kept = read.rows | "KeepFirst" >> KeepFirst(columns[0].name)
            rejects.append(kept.rejects)
        _ = (
            kept.rows
            | "MakeExamples" >> beam.Map(lambda row: row_example(row.values, columns))
            | "WriteExamples" >> WriteExamples(self._examples_uri)
        )
        return {
            "accepted": kept.rows,
            "rejects": rejects | "JoinRejects" >> beam.Flatten(),
            "exact_copies": kept.copies,
        } | "WriteRejects" >> WriteRejects(self._rejects_uri, self._facts.notes)


def with_event(row: Row) -> Row:
    """The row with its kind of event, `play` where the table does not say."""
    return row._replace(values={**row.values, "event": row.values.get("event", DEFAULT_EVENT)})
