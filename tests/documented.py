"""The tables of the documentation, as a reader takes them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table(page: str, header: str) -> list[list[str]]:
    """The rows of the tables of `docs/PAGE` whose first header cell is `header`; cells stripped. At least one row."""
    rows, inside = [], False
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0].strip("| ") == header:
            inside = True
        elif inside and not set(cells[0]) <= set("-|: "):
            rows.append(cells)
    assert rows, f"docs/{page} has no table that starts with {header!r}"
    return rows


def names(text: str) -> set[str]:
    """The plain names in backticks; dotted ones, paths and commands are none."""
    return set(re.findall(r"`([a-z_][a-z0-9_]*)`", text))


def typed(text: str) -> dict[str, str]:
    """Name -> dtype, of names in backticks that are followed by one: `` `k` int32 [B]``."""
    return dict(re.findall(r"`([a-z_]\w*)` (string|bool|u?int\d+|float\d+)\b", text))


def signatures(page_table: list[list[str]], others: set[str] = frozenset()) -> dict[str, tuple[str, str]]:
    """Signature -> the texts of its inputs and of its outputs.

    others: words in backticks that are neither.
    """
    found = {}
    for cells in page_table:
        heads, text = cells[0], " | ".join(cells[1:])
        before, _, after = text.partition("→")
        for name in names(heads) - others:
            found[name] = (before, after)
    return found
