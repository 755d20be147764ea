"""Converts a whole table from its files to Examples and rejects on disk."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import apache_beam as beam

from components.account import ACCEPTED, COPIES, REJECTED, ROWS
from components.artifacts import WriteRecords
from components.contract import Column
from components.examples import add_place, row_example
from components.rejects import FORGOTTEN, WriteRejects, reject
from components.tables.duplicates import KeepFirst
from components.tables.inspection import TableFacts
from components.tables.readers import STAGE, ReadTable, Row

DEFAULT_EVENT = "play"  # what an event is that does not say what it is


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
        columns = self._columns
        read = pipeline | "ReadTable" >> ReadTable(columns, self._facts)
        allowed = read.rows | "DropForgotten" >> beam.Map(tagged, self._forgotten).with_outputs("rejects", main="rows")
        if self._name == "events":
            named = allowed.rows | "NameEvents" >> beam.Map(with_event)
            kept = named | "DropCopies" >> KeepFirst(lambda row: serialized(row, columns))
            records = kept.rows | "SerializeEvents" >> beam.Map(serialized_with_place, columns)
        else:
            kept = allowed.rows | "KeepFirst" >> KeepFirst(lambda row: row.values[columns[0].name])
            records = kept.rows | "SerializeRows" >> beam.Map(serialized, columns)
        rejects = [read.rejects, allowed.rejects, kept.rejects] | "JoinRejects" >> beam.Flatten()
        _ = records | "WriteRecords" >> WriteRecords(self._examples_uri)
        return {
            "accepted": records,
            "rejects": rejects,
            COPIES: kept.copies,
            "cells": read.notes,
            "by_file": {"kept": kept.rows, "rejects": rejects, "copies": kept.copies, "counts": read.counts}
            | "CountByFile" >> _CountByFile(),
        } | "WriteRejects" >> WriteRejects(self._rejects_uri, self._facts.notes)


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
    detail = "user_id: this person asked to be forgotten (the store's tombstones)"
    return beam.pvalue.TaggedOutput("rejects", reject(STAGE, row.source, row.line, None, FORGOTTEN, detail))


def serialized(row: Row, columns: tuple[Column, ...]) -> bytes:
    """The row as a serialized Example: equal values give equal bytes."""
    return row_example(row.values, columns).SerializeToString(deterministic=True)


def serialized_with_place(row: Row, columns: tuple[Column, ...]) -> bytes:
    """The row as a serialized Example that also says its file and line, for what later steps reject."""
    example = row_example(row.values, columns)
    add_place(example, row.source, row.line)
    return example.SerializeToString(deterministic=True)


def with_event(row: Row) -> Row:
    """The row with its kind of event, `play` where the table does not say."""
    return row._replace(values={**row.values, "event": row.values.get("event", DEFAULT_EVENT)})
