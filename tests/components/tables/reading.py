"""Reading a table as the node does, without Beam."""

from components.config import DataConfig, TableConfig
from components.contract import catalogue_columns
from components.tables.inspection import inspect_table
from components.tables.readers import Row, read_rows

ITEMS = catalogue_columns(
    DataConfig(catalogue=TableConfig("c"), events=TableConfig("e"), numeric=("year",), embeddings={"clip": 2})
)
PLAIN_ITEMS = tuple(column for column in ITEMS if column.name not in ("year", "embedding:clip"))
NOW_S = 1_790_000_000  # 2026-09-21


def read(path, columns=PLAIN_ITEMS, now_s=NOW_S, **table):
    """All rows and rejects of a table, in file order, as the reader gives them."""
    facts = inspect_table(TableConfig(str(path), **table), columns, now_s)
    found = [row for file in facts.files for row in read_rows(file, columns, facts)]
    return [row for row in found if isinstance(row, Row)], [row for row in found if not isinstance(row, Row)]


def notes(path, columns=PLAIN_ITEMS, **table):
    """What a look at a table's files notes."""
    return inspect_table(TableConfig(str(path), **table), columns, NOW_S).notes


def faults(rejects):
    """Line and reason of each reject."""
    return [(reject["line"], reject["reason"]) for reject in rejects]


def titles(rows):
    """Titles by item id."""
    return {row.values["item_id"]: row.values.get("title") for row in rows}


def write(path, content):
    """A file with this content, text or bytes."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
