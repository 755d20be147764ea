"""Finds a table's columns in a file: by their names, by near misses of them, and in words where they are not there."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from components.config import DataConfig, TableConfig
from components.contract import CATALOGUE, EVENTS, USERS, Column, catalogue_columns, user_columns
from components.tables.raw import TableError

_LOOKS_LIKE_DATA = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?|[0-9]{4}-[0-9]{2}.*|\w+://.*|.*[./].*\.\w{2,4}")


def table_and_columns(data: DataConfig, name: str) -> tuple[TableConfig, tuple[Column, ...]]:
    """The settings and columns of a table: catalogue, events or users. Raises TableError where it is not configured."""
    tables = {
        "catalogue": (data.catalogue, catalogue_columns(data)),
        "events": (data.events, EVENTS),
        "users": (data.users, user_columns(data)),
    }
    table, columns = tables.get(name, (None, ()))
    if table is None:
        raise TableError(f"no table {name!r} is configured, expected one of {', '.join(tables)}")
    names = [column.name for column in columns]
    if twice := [column for column, count in Counter(names).items() if count > 1]:
        listed = ", ".join(sorted(twice))
        raise TableError(f"{name}: the columns {listed} are declared twice, or are part of the contract already")
    for setting in ("columns", "empty_values_of"):
        if unknown := sorted(set(getattr(table, setting)) - set(names)):
            raise TableError(f"{name}.{setting}: there is no column {', '.join(unknown)}; it has {', '.join(names)}")
    return table, columns


def wanted_names(found: Iterable[str] | None, table: TableConfig, columns: Sequence[Column]) -> dict[str, str]:
    """The name in the file of each of the columns: stated, the contract's own, or the one near miss of it that is
    there.

    found: the file's names. A near miss differs in case, blanks, dashes, dots, colons and underscores alone. A column
    that is not there keeps its name.
    """
    names = {column.name: table.columns.get(column.name, column.name) for column in columns}
    found = list(found or ())
    free = [name for name in found if name not in names.values()]
    near: dict[str, list[str]] = {}
    for name in free:
        near.setdefault(_plain(name), []).append(name)
    for column in columns:
        misses = near.get(_plain(column.name), [])
        if column.name not in table.columns and names[column.name] not in found and len(misses) == 1:
            names[column.name] = misses[0]
    return names


def near_misses(found: Iterable[str], names: dict[str, str], table: TableConfig) -> dict[str, str]:
    """The columns that are read under a name that is neither stated nor the contract's own."""
    there = set(found)
    read = {column: name for column, name in names.items() if name in there and name != column}
    return {column: name for column, name in read.items() if name != table.columns.get(column)}


def unread(found: Iterable[str], names: dict[str, str], columns: Sequence[Column]) -> dict[str, str]:
    """The file's columns that nobody reads, each with the column that it may have been meant for, or ""."""
    found = list(dict.fromkeys(found))
    missing = [column.name for column in columns if names[column.name] not in found]
    plain = {_plain(name): name for name in missing}
    result = {}
    for name in found:
        if name not in names.values():
            close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75)
            result[name] = plain[close[0]] if close else ""
    return result


def missing_columns(
    found: list[str], names: dict[str, str], table: TableConfig, columns: Sequence[Column], is_header: bool
) -> str:
    """What is wrong with a file's columns, "" where nothing is.

    found: the file's names. names: from `wanted_names`. is_header: whether the file can have no other columns, as with
    a header; then the columns that settings name must be there, too, and not only the required ones.
    """
    read = [name for name in found if name in names.values()]
    if twice := [name for name, count in Counter(read).items() if count > 1]:
        return f"a column name stands twice in the header: {', '.join(twice)}"
    contract = set(CATALOGUE + EVENTS + USERS)
    expected = [c for c in columns if c.required or (is_header and (c.name in table.columns or c not in contract))]
    missing = [names[column.name] for column in expected if names[column.name] not in found]
    if not missing:
        return ""
    headerless = is_header and not read and looks_like_data(found)
    why = "this file has no header: its first row looks like data; " if headerless else ""
    return f"{why}no column {', '.join(missing)}{_meant(found, names, columns)}"


def looks_like_data(header: Sequence[str]) -> bool:
    """Whether a header has a cell that no column is named by: a number, a date, an address, nothing at all."""
    return any(not cell.strip() or _LOOKS_LIKE_DATA.fullmatch(cell.strip()) for cell in header)


def found_and_expected(found: Iterable[str], table: TableConfig, columns: Sequence[Column]) -> str:
    """What a file has and what it should have, in words."""
    names = ", ".join(repr(name) for name in found)
    expected = ", ".join(table.columns.get(c.name, c.name) + (" (required)" if c.required else "") for c in columns)
    return f"{f'columns found: {names}' if names else 'no columns found'}; expected: {expected}"


def _meant(found: list[str], names: dict[str, str], columns: Sequence[Column]) -> str:
    guesses = [f"{name!r} for {meant}" for name, meant in unread(found, names, columns).items() if meant]
    return f" (is it {', '.join(guesses)}? state it in columns)" if guesses else ""


def _plain(name: str) -> str:
    return re.sub(r"[ \t\u00a0_.:-]+", "", name.casefold())
