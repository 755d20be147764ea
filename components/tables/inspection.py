"""Looks at a table's files before anything is computed: are they there, have they the columns, what unit have the
times?

What is wrong with a table as a whole is a `TableError` here.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError

from components.config import TableConfig
from components.contract import Column
from components.files import is_pattern, is_remote, matching_files
from components.tables.columns import found_and_expected, missing_columns, near_misses, unread, wanted_names
from components.tables.formats import has_known_ending, open_table
from components.tables.raw import TableError
from components.tables.times import TimeUnit, plausible_span, says_no_date, unit_of_times
from components.tables.values import ReadingRules, is_absent

PEEKED_ROWS = 100  # of each file, looking for columns and times
PEEKED_ROWS_FOR_TIME = 10_000  # as long as no time has been seen
PEEKED_TIMES = 100


@dataclass(frozen=True)
class TableFacts:
    """What a look at a table's files showed before anything is read in earnest."""

    files: tuple[str, ...]
    rules: ReadingRules
    names: dict[str, dict[str, str]]  # of each file's columns, by the contract's; where it shows none, the others'
    notes: dict[str, Any] = field(default_factory=dict)  # for the summary


@dataclass
class _Look:
    """What the first rows of the files show, gathered file by file."""

    found: dict[str, None] = field(default_factory=dict)  # names of columns, in their order
    names: dict[str, dict[str, str]] = field(default_factory=dict)  # of those there, by file and contract
    times: list[Any] = field(default_factory=list)
    without_rows: list[str] = field(default_factory=list)
    without_quotes: list[str] = field(default_factory=list)
    separators: Counter[tuple[str, bool]] = field(
        default_factory=Counter
    )  # (list column, whether it is the stated one)


def inspect_table(table: TableConfig, columns: tuple[Column, ...], now_s: float | None = None) -> TableFacts:
    """Find a table's files, check their columns, and detect the unit of its times.

    now_s: seconds since 1970; an event more than a day later is in the future. The clock's where None.
    Raises TableError naming the file, the columns found and expected, and the number of rows.
    """
    files = table_files(table.path)
    look = _Look()
    for path in files:
        _look_into(path, table, columns, look)
    if len(look.without_rows) == len(files):
        facts = found_and_expected(look.found, table, columns)
        raise TableError(f"{files[0]}: no row; {facts}; 0 rows in {len(files)} file(s)")
    unit: TimeUnit = unit_of_times(look.times) if table.timestamp_unit == "auto" else table.timestamp_unit
    times = [column.name for column in columns if column.kind == "time"]
    if look.times and unit == "unknown":
        raise TableError(
            f"{files[0]}: {times[0]}: got {look.times[0]!r}, which does not say its unit; "
            "state timestamp_unit (s, ms, us, ns or iso)"
        )
    spans = {name: plausible_span(name, table, now_s) for name in times}
    names = wanted_names(look.found, table, columns)
    notes = {
        "files": len(files),
        **({"timestamp_unit": unit} if look.times else {}),
        **_notes(look, names, table, columns),
    }
    names_of = {path: {**names, **there} for path, there in look.names.items()}
    return TableFacts(files, ReadingRules(table, unit, spans), names_of, notes)


def table_files(path: str) -> tuple[str, ...]:
    """The files of a table, sorted.

    Of a folder or a pattern, files that begin with a dot or an underscore are left out, as the marks of Spark are, and
    of a folder those that are no tables. Raises TableError where there is none.
    """
    try:
        found = matching_files(path)
    except (BeamIOError, OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be listed: {error}") from error
    files = [file for file in found if file == path or not file.rpartition("/")[2].startswith(("_", "."))]
    if Path(path).is_dir() or (is_remote(path) and not is_pattern(path) and path not in found):
        files = [file for file in files if has_known_ending(file)]
    if not files:
        raise TableError(f"{path}: no file matches")
    return tuple(files)


def _notes(look: _Look, names: dict[str, str], table: TableConfig, columns: Sequence[Column]) -> dict[str, Any]:
    """What the owner of the table should know, without what is as expected."""
    read = {name for there in look.names.values() for name in there.values()}
    ignored = {name: meant for name, meant in unread(look.found, names, columns).items() if name not in read}
    lists = [column.name for column in columns if column.kind == "list"]
    notes = {
        "ignored_columns": sorted(ignored),
        "did_you_mean": {name: meant for name, meant in ignored.items() if meant},
        "near_misses": {
            column: name
            for there in look.names.values()
            for column, name in near_misses(look.found, there, table).items()
        },
        "files_without_rows": look.without_rows,
        "files_without_quotes": look.without_quotes,
        "lists_with_commas": [name for name in lists if look.separators[name, False] > look.separators[name, True]],
    }
    return {name: note for name, note in notes.items() if note}


def _look_into(path: str, table: TableConfig, columns: tuple[Column, ...], look: _Look) -> None:
    """Check a file's columns and see its first rows."""
    wants_times = not look.times and any(column.kind == "time" for column in columns)
    with open_table(path, table) as raw:
        found = raw.columns or []
        names = wanted_names(found, table, columns)
        if found:
            _require_columns(path, table, columns, found, is_header=True)
        limit = PEEKED_ROWS_FOR_TIME if wants_times else PEEKED_ROWS
        rows = [row.cells for row in itertools.islice(raw.read(names.values()), limit)]
    if raw.columns is None and rows:
        found = list(dict.fromkeys(name for row in rows for name in row))
        names = wanted_names(found, table, columns)
        _require_columns(path, table, columns, found, is_header=False)
    look.found.update(dict.fromkeys(found))
    look.names[path] = {column: name for column, name in names.items() if name in found}
    if raw.quotes == "none" and table.quotes == "auto":
        look.without_quotes.append(path)
    if not rows:
        look.without_rows.append(path)
    rules = ReadingRules(table)
    for column in columns:
        cells = [cell for row in rows if not is_absent(cell := row.get(names[column.name]), column, rules)]
        if column.kind == "time":
            said = (cell for cell in cells if not says_no_date(cell))
            look.times += itertools.islice(said, max(PEEKED_TIMES - len(look.times), 0))
        elif column.kind == "list":
            texts = [cell for cell in cells if isinstance(cell, str) and not cell.lstrip().startswith("[")]
            stated = [table.list_separator in text for text in texts]
            look.separators[column.name, True] += sum(stated)
            look.separators[column.name, False] += sum("," in text and not has for text, has in zip(texts, stated))


def _require_columns(
    path: str, table: TableConfig, columns: tuple[Column, ...], found: list[str], is_header: bool
) -> None:
    problem = missing_columns(found, wanted_names(found, table, columns), table, columns, is_header)
    if problem:
        with open_table(path, table) as raw:
            rows = sum(1 for _ in raw.read(()))
        facts = found_and_expected(found, table, columns)
        raise TableError(f"{path}: {problem}; {facts}; {rows} rows; separator {table.separator!r}")
