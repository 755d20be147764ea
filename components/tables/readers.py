"""Reads a table's files into typed rows and rejects, on Beam. A file is one unit of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from components.contract import Column
from components.examples import SOURCE_FILE as SOURCE
from components.examples import SOURCE_LINE as LINE
from components.rejects import FORGOTTEN, reject
from components.tables.column_values import ARROW_TYPES, typed_column
from components.tables.formats import open_table
from components.tables.inspection import TableFacts
from components.tables.raw import RawBlock, RawRow
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
    with open_table(path, facts.rules.table) as raw:
        names = facts.names[path]
        for row in raw.read([names[column.name] for column in columns]):
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


class Block(NamedTuple):
    """What some rows of a file became."""

    rows: pa.Table  # the accepted ones: a column each, null where absent, and SOURCE and LINE
    rejects: list[dict[str, Any]]
    notes: Counter[str]  # on cells of accepted rows
    num_rows: int  # of the file, accepted or not


def read_blocks(path: str, columns: tuple[Column, ...], facts: TableFacts) -> Iterator[Block]:
    """The same rows, rejects and notes as those of `read_rows`, many at a time. columns: without lists and embeddings.

    Only rows with a fault, and those that a file's format gives one by one, are looked at one by one.
    """
    rules = facts.rules
    with open_table(path, rules.table) as raw:
        names = facts.names[path]
        for block in raw.blocks([names[column.name] for column in columns]):
            yield _typed_block(path, block, columns, names, rules)


def _typed_block(
    path: str, block: RawBlock, columns: tuple[Column, ...], names: dict[str, str], rules: ReadingRules
) -> Block:
    found = {column.name: typed_column(block, names[column.name], column, rules) for column in columns}
    sound = np.ones(len(block.lines), bool)
    for column in columns:
        sound &= ~found[column.name].faulty
        if column.required:
            sound &= found[column.name].values.is_valid().to_numpy(zero_copy_only=False)
    notes: Counter[str] = Counter()
    for note, rows in (note for typed in found.values() for note in typed.notes):
        notes[note] += int(sound[rows].sum())
    plain = _with_places(path, {name: typed.values for name, typed in found.items()}, block.lines)
    others, rejects = [], []
    for row in [*_faulty_rows(block, np.flatnonzero(~sound)), *block.rows]:
        typed_row = _typed(path, row, columns, names, rules)
        if isinstance(typed_row, Row):
            others.append(typed_row)
            notes.update(typed_row.notes)
        else:
            rejects.append(typed_row)
    cells = {
        column.name: pa.array([row.values.get(column.name) for row in others], ARROW_TYPES[column.kind])
        for column in columns
    }
    one_by_one = _with_places(path, cells, [row.line for row in others])
    accepted = pa.concat_tables([plain.filter(pa.array(sound)), one_by_one])
    return Block(accepted, rejects, +notes, len(block.lines) + len(block.rows))


def _with_places(path: str, values: Mapping[str, pa.Array], lines: Sequence[int] | np.ndarray) -> pa.Table:
    return pa.table({**values, SOURCE: pa.array([path] * len(lines), pa.string()), LINE: pa.array(lines, pa.int64())})


def _faulty_rows(block: RawBlock, at: np.ndarray) -> Iterator[RawRow]:
    taken = pa.array(at)
    cells = {name: block.cells(name, array.take(taken)) for name, array in block.columns.items()}
    for place, line in enumerate(block.lines[at].tolist()):
        yield RawRow(line, {name: column[place] for name, column in cells.items()})


def forgotten_reject(source: str, line: int) -> dict[str, Any]:
    """The reject of a row of somebody who was forgotten; it does not say of whom."""
    detail = "user_id: this person asked to be forgotten (the store's tombstones)"
    return reject(STAGE, source, line, None, FORGOTTEN, detail)


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
