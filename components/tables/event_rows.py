"""Turns the events of a table's files into Examples, many rows at a time, without exact copies of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.account import ACCEPTED, COPIES, REJECTED, ROWS
from components.batches import by_user, coded, column, numbers_of, unpacked
from components.contract import EVENTS
from components.example_records import serialized_rows
from components.tables.duplicates import contradiction
from components.tables.inspection import TableFacts
from components.tables.readers import LINE, SOURCE, Block, Row, forgotten_reject, read_blocks

DEFAULT_EVENT = "play"  # what an event is that does not say what it is


class EventsToExamples(beam.PTransform):
    """Reads a table of events.

    Pipeline → `records` (lists of serialized Examples, each of which knows its place), `rejects` (dicts, see
    `components.rejects.reject`), `numbers` (((kind, name), number) of accepted rows, copies and notes on cells, see
    `components.rejects.WriteRejects`) and `by_file` (((file, kind of row), number)). Of rows that are equal in every
    column the first by file and line stays.
    """

    def __init__(self, facts: TableFacts, forgotten: Collection[str] = ()):
        super().__init__()
        self._facts, self._forgotten = facts, frozenset(forgotten)

    def expand(self, pipeline: beam.Pipeline) -> Any:
        read_file = beam.ParDo(_ReadFile(self._facts, self._forgotten))
        read = (
            pipeline
            | "ListFiles" >> beam.Create(self._facts.files)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ReadFiles" >> read_file.with_outputs("rejects", "numbers", "by_file", main="batches")
        )
        kept = (
            read.batches
            | "GatherUsers" >> beam.GroupByKey()
            | "DropCopies"
            >> beam.FlatMapTuple(_without_copies).with_outputs("rejects", "numbers", "by_file", main="records")
        )
        return {
            "records": kept.records,
            **{
                name: (getattr(read, name), getattr(kept, name)) | f"Join {name}" >> beam.Flatten()
                for name in ("rejects", "numbers", "by_file")
            },
        }


class _ReadFile(beam.DoFn):
    """A file's rows as (bucket of users, packed rows), its rejects, and its numbers."""

    def __init__(self, facts: TableFacts, forgotten: frozenset[str]):
        self._facts, self._forgotten = facts, forgotten

    def process(self, path: str) -> Iterator[Any]:
        num_rows = 0
        for block in read_blocks(path, EVENTS, self._facts):
            num_rows += block.num_rows
            allowed = _without_forgotten(block, self._forgotten)
            yield from _tagged(allowed.rejects)
            yield from (_number("cells", note, number) for note, number in allowed.notes.items())
            if allowed.rows.num_rows:
                yield from by_user(_named(allowed.rows))
        yield beam.pvalue.TaggedOutput("by_file", ((path, ROWS), num_rows))


def _tagged(rejects: Iterable[dict[str, Any]]) -> Iterator[beam.pvalue.TaggedOutput]:
    """Rejects, and how many of them are of which file."""
    files: Counter[str] = Counter()
    for one in rejects:
        files[one["source"]] += 1
        yield beam.pvalue.TaggedOutput("rejects", one)
    yield from _of_files(REJECTED, files)


def _of_files(kind: str, files: Counter[str]) -> Iterator[beam.pvalue.TaggedOutput]:
    yield from (beam.pvalue.TaggedOutput("by_file", ((path, kind), number)) for path, number in files.items())


def _number(kind: str, name: str, number: int) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput("numbers", ((kind, name), number))


def _without_forgotten(block: Block, forgotten: frozenset[str]) -> Block:
    if not forgotten:
        return block
    of_them = pc.is_in(block.rows["user_id"], pa.array(sorted(forgotten), pa.string()))
    rejects = [
        forgotten_reject(source, line)
        for source, line in zip(*(block.rows.filter(of_them)[name].to_pylist() for name in (SOURCE, LINE)))
    ]
    return block._replace(rows=block.rows.filter(pc.invert(of_them)), rejects=block.rejects + rejects)


def _named(rows: pa.Table) -> pa.Table:
    """The rows with their kinds of event, `play` where the table does not say."""
    place = rows.column_names.index("event")
    return rows.set_column(place, "event", pc.fill_null(rows["event"], DEFAULT_EVENT))


def _without_copies(bucket: int, batches: Iterable[bytes]) -> Iterator[Any]:
    kept = first_of_each(unpacked(batches))
    yield serialized_rows(kept.rows)
    yield from _tagged(kept.rejects)
    for kind, rows in (("accepted", kept.rows), (COPIES, kept.copies)):
        if rows.num_rows:
            yield _number("count", kind, rows.num_rows)
        files = Counter({of["values"]: of["counts"] for of in rows[SOURCE].value_counts().to_pylist()})
        yield from _of_files(ACCEPTED if kind == "accepted" else COPIES, files)


class Kept(NamedTuple):
    """Rows without their copies."""

    rows: pa.Table  # by file and line
    copies: pa.Table
    rejects: list[dict[str, Any]]


def first_of_each(rows: pa.Table) -> Kept:
    """The first by file and line of each group of events whose Examples are equal; others are copies.

    One whose number differs, but not as float32, is a reject: it contradicts the first.
    """
    rows = rows.take(pc.sort_indices(rows, sort_keys=[(SOURCE, "ascending"), (LINE, "ascending")])).combine_chunks()
    group = np.zeros(rows.num_rows, np.int64)
    for name in (one.name for one in EVENTS):
        array = column(rows, name)
        if pa.types.is_floating(array.type):
            array = array.cast(pa.float32(), safe=False).view(pa.int32())  # -0.0 is not 0.0
        _, codes = coded(array)
        _, first, group = np.unique(group * (codes.max(initial=0) + 1) + codes, return_index=True, return_inverse=True)
    first = first[group]
    values = numbers_of(column(rows, "value"), 0.0)
    is_first, differs = first == np.arange(rows.num_rows), values != values[first]
    return Kept(
        rows.filter(pa.array(is_first)),
        rows.filter(pa.array(~is_first & ~differs)),
        [_contradicting(rows, at, int(first[at])) for at in np.flatnonzero(differs).tolist()],
    )


def _contradicting(rows: pa.Table, at: int, first: int) -> dict[str, Any]:
    return contradiction(serialized_rows(rows.slice(at, 1).drop([SOURCE, LINE]))[0], _row(rows, at), _row(rows, first))


def _row(rows: pa.Table, at: int) -> Row:
    (values,) = rows.slice(at, 1).to_pylist()
    source, line = values.pop(SOURCE), values.pop(LINE)
    return Row(source, line, {name: value for name, value in values.items() if value is not None})
