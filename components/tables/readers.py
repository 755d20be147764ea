"""Reads a table's files into typed rows and rejects, on Beam. A file is one unit of work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from components.contract import Column
from components.rejects import reject
from components.tables.columns import wanted_names
from components.tables.formats import open_table
from components.tables.inspection import TableFacts
from components.tables.raw import RawRow
from components.tables.values import CellError, ReadingRules, convert

STAGE = "tables"


class Row(NamedTuple):
    """A typed row and where it stands."""

    source: str
    line: int
    values: dict[str, Any]  # by the contract's names, without those that are absent
    notes: tuple[str, ...] = ()  # what was made of its cells, to be counted


def read_rows(path: str, columns: tuple[Column, ...], facts: TableFacts) -> Iterator[Row | dict[str, Any]]:
    """The rows of one file in order: a `Row`, or a reject (see `components.rejects.reject`)."""
    table = facts.rules.table
    with open_table(path, table) as raw:
        names = facts.names if raw.columns is None else wanted_names(raw.columns, table, columns)
        for row in raw.read(names.values()):
            yield _typed(path, row, columns, names, facts.rules)


def _typed(
    path: str, row: RawRow, columns: tuple[Column, ...], names: dict[str, str], rules: ReadingRules
) -> Row | dict[str, Any]:
    if row.reason:
        return reject(STAGE, path, row.line, None, row.reason, row.detail)
    values: dict[str, Any] = {}
    notes: list[str] = []
    try:
        for column in columns:
            value, note = convert(row.cells.get(names[column.name]), column, rules)
            if note:
                notes.append(note)
            if value is not None:
                values[column.name] = value
            elif column.required:
                raise CellError("missing_required", f"{column.name}: is empty")
    except CellError as error:
        return reject(STAGE, path, row.line, values.get("item_id"), error.reason, str(error))
    return Row(path, row.line, values, tuple(notes))


class _ReadFile(beam.DoFn):
    """A file's rows, its rejects, the notes on its cells, and (file, number of all its rows)."""

    def __init__(self, columns: tuple[Column, ...], facts: TableFacts):
        self._columns, self._facts = columns, facts

    def process(self, path: str) -> Iterator[Any]:
        count = 0
        for row in read_rows(path, self._columns, self._facts):
            count += 1
            if isinstance(row, Row):
                yield row._replace(notes=())
                yield from (beam.pvalue.TaggedOutput("notes", note) for note in row.notes)
            else:
                yield beam.pvalue.TaggedOutput("rejects", row)
        yield beam.pvalue.TaggedOutput("counts", (path, count))


class ReadTable(beam.PTransform):
    """Reads a table that `inspect_table` has found to be usable.

    Pipeline → `rows` (Row), `rejects` (dicts, see `components.rejects.reject`), `notes` (a text for each cell of which
    something was made that its owner should know) and `counts` ((file, number of rows as the file has them)).
    """

    def __init__(self, columns: tuple[Column, ...], facts: TableFacts):
        super().__init__()
        self._columns, self._facts = columns, facts

    def expand(self, pipeline: beam.Pipeline) -> Any:
        read_file = beam.ParDo(_ReadFile(self._columns, self._facts))
        return (
            pipeline
            | "ListFiles" >> beam.Create(self._facts.files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadFiles" >> read_file.with_outputs("rejects", "notes", "counts", main="rows")
        )
