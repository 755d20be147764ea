"""The people of the users table, who may have no events yet."""

from __future__ import annotations

from collections.abc import Iterator

from components.config import DataConfig
from components.settings import SettingsError


def user_ids(data: DataConfig) -> Iterator[str]:
    """The ids of the users table's accepted rows, in its order; none where no table is configured.

    Raises SettingsError where the table cannot be used.
    """
    if data.users is None:
        return
    from components.tables.formats import TableError
    from components.tables.readers import Row, inspect_table, read_rows, table_and_columns

    try:
        table, columns = table_and_columns(data, "users")
        facts = inspect_table(table, columns)
        for path in facts.files:
            for row in read_rows(path, table, columns, facts.time_unit):
                if isinstance(row, Row):
                    yield row.values["user_id"]
    except TableError as error:
        raise SettingsError(str(error)) from error
