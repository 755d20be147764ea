"""Reads the accepted rows of a configured table, without a run; a run reports what it rejects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from components.config import DataConfig

if TYPE_CHECKING:
    from components.tables.readers import Row


def accepted_rows(data: DataConfig, name: str) -> Iterator[dict[str, Any]]:
    """The values of each accepted row, by the contract's names, in the order of the files.

    name: catalogue, events or users. Raises TableError where the table is not configured or cannot be used.
    """
    from components.tables.readers import Row

    for row in read_rows(data, name):
        if isinstance(row, Row):
            yield row.values


def read_rows(data: DataConfig, name: str) -> Iterator[Row | dict[str, Any]]:
    """Every row of a configured table: a `Row`, or a reject (`components.rejects.reject`).

    name: catalogue, events or users. Raises TableError where the table is not configured or cannot be used.
    """
    from components.tables import readers
    from components.tables.columns import table_and_columns
    from components.tables.inspection import inspect_table

    table, columns = table_and_columns(data, name)
    facts = inspect_table(table, columns)
    for path in facts.files:
        yield from readers.read_rows(path, columns, facts)
