"""Reads the accepted rows of a configured table, without a run; a run reports what it rejects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from components.config import DataConfig


def accepted_rows(data: DataConfig, name: str) -> Iterator[dict[str, Any]]:
    """The values of each accepted row, by the contract's names, in the order of the files.

    name: catalogue, events or users. Raises TableError where the table is not configured or cannot be used.
    """
    from components.tables.columns import table_and_columns
    from components.tables.inspection import inspect_table
    from components.tables.readers import Row, read_rows

    table, columns = table_and_columns(data, name)
    facts = inspect_table(table, columns)
    for path in facts.files:
        for row in read_rows(path, columns, facts):
            if isinstance(row, Row):
                yield row.values
