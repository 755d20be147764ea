"""Converts a whole table from its files to Examples and rejects on disk."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import apache_beam as beam

from components.account import ACCEPTED, COPIES, REJECTED, ROWS
from components.artifacts import WriteRecords
from components.contract import Column
from components.examples import row_example
from components.record_files import WriteRecordLists
from components.rejects import WriteRejects
from components.tables.duplicates import KeepFirst
from components.tables.event_rows import EventsToExamples
from components.tables.inspection import TableFacts
from components.tables.readers import ReadTable, Row, forgotten_reject


class TableToExamples(beam.PTransform):
    """Reads a table and writes its rows as Examples, its rejects, and the account of every file.

    Pipeline → Examples in `examples_uri`, rejects and summary in `rejects_uri`. Of the rows of one id the first stands
    in catalogue and users; events lose exact copies and keep the place of the first. Rows of people who were forgotten
    are rejects.
    """

    def __init__(
        self,
        name: str,
        columns: tuple[Column, ...],
        facts: TableFacts,
        examples_uri: str,
        rejects_uri: str,
        forgotten: Collection[str] = (),
    ):
        """forgotten: ids of the people whose rows must not be used."""
        super().__init__()
        self._forgotten = frozenset(forgotten)
        self._name, self._columns, self._facts = name, columns, facts
        self._examples_uri, self._rejects_uri = examples_uri, rejects_uri

    def expand(self, pipeline: beam.Pipeline) -> Any:
        found = pipeline | (
            "ReadEvents" >> EventsToExamples(self._facts, self._forgotten)
            if self._name == "events"
            else "ReadRows" >> _RowsToExamples(self._columns, self._facts, self._forgotten)
        )
        write = WriteRecordLists if self._name == "events" else WriteRecords
        _ = found.pop("records") | "WriteRecords" >> write(self._examples_uri)
        return found | "WriteRejects" >> WriteRejects(self._rejects_uri, self._facts.notes)


class _RowsToExamples(beam.PTransform):
    """Rows of the catalogue or of the users, one by one: these tables are small, their columns of every kind."""

    def __init__(self, columns: tuple[Column, ...], facts: TableFacts, forgotten: frozenset[str]):
        super().__init__()
        self._columns, self._facts, self._forgotten = columns, facts, forgotten

    def expand(self, pipeline: beam.Pipeline) -> Any:
        columns = self._columns
        read = pipeline | "ReadTable" >> ReadTable(columns, self._facts)
        allowed = read.rows | "DropForgotten" >> beam.Map(tagged, self._forgotten).with_outputs("rejects", main="rows")
        kept = allowed.rows | "KeepFirst" >> KeepFirst(lambda row: row.values[columns[0].name])
        records = kept.rows | "SerializeRows" >> beam.Map(serialized, columns)
        rejects = [read.rejects, allowed.rejects, kept.rejects] | "JoinRejects" >> beam.Flatten()
        return {
            "records": records,
            "accepted": records,
            "rejects": rejects,
            COPIES: kept.copies,
            "cells": read.notes,
            "by_file": {"kept": kept.rows, "rejects": rejects, "copies": kept.copies, "counts": read.counts}
            | "CountByFile" >> _CountByFile(),
        }


class _CountByFile(beam.PTransform):
    """→ ((file, kind of row), number): what came out of each file beside what its reader saw in it."""

    def expand(self, collections: dict[str, beam.PCollection]) -> Any:
        return (
            collections["counts"] | "KeyRead" >> beam.MapTuple(lambda path, number: ((path, ROWS), number)),
            collections["kept"] | "KeyAccepted" >> beam.Map(lambda row: ((row.source, ACCEPTED), 1)),
            collections["copies"] | "KeyCopies" >> beam.Map(lambda row: ((row.source, COPIES), 1)),
            collections["rejects"] | "KeyRejects" >> beam.Map(lambda reject: ((reject["source"], REJECTED), 1)),
        ) | "JoinKinds" >> beam.Flatten()


def tagged(row: Row, forgotten: Collection[str]) -> Row | beam.pvalue.TaggedOutput:
    """The row, or a reject where it is of somebody who was forgotten; the reject does not say of whom."""
    if row.values.get("user_id") not in forgotten:
        return row
    return beam.pvalue.TaggedOutput("rejects", forgotten_reject(row.source, row.line))


def serialized(row: Row, columns: tuple[Column, ...]) -> bytes:
    """The row as a serialized Example: equal values give equal bytes."""
    return row_example(row.values, columns).SerializeToString(deterministic=True)
