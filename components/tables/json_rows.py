"""Parses JSON tables into rows: an object a line, or one array of objects."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from components.config import TableConfig
from components.tables.raw import RawRow, undecoded

_BETWEEN_ELEMENTS = re.compile(r"[\s,]*")
_TO_NEXT = re.compile(r"\s*(?:,\s*(?=\{)|(?=\]\s*\Z))")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\\n]|\\.)*"|["{}[\]]')  # no string reaches beyond its line
_DEPTHS = {"{": 1, "[": 1, "}": -1, "]": -1}
_LOOKED_AT_CHARS = 1 << 16  # for the end of a broken element where no line shows the next one


def json_rows(lines: Iterable[str], table: TableConfig) -> Iterator[RawRow]:
    """The objects of a file, each with the line on which it starts; what is no object is a row with the reason
    bad_json.

    A file that begins with a bracket is one array and read as a whole, any other has an object a line.
    """
    numbered = ((line, text) for line, text in enumerate(lines, 1) if text.strip())
    first = next(numbered, None)
    if first is None:
        return
    line, text = first
    if text.lstrip().startswith("["):
        yield from _array_rows([text, *lines], line, table)
        return
    for line, text in itertools.chain([first], numbered):
        yield _row(line, text, table)


def _row(line: int, text: str, table: TableConfig) -> RawRow:
    if problem := undecoded(text, table):
        return RawRow(line, {}, "bad_encoding", problem)
    try:
        return _as_row(line, _DECODER.decode(text))
    except (ValueError, RecursionError) as error:
        return RawRow(line, {}, "bad_json", str(error))


def _as_row(line: int, cells: Any) -> RawRow:
    if isinstance(cells, dict):
        return RawRow(line, cells)
    return RawRow(line, {}, "bad_json", f"got {type(cells).__name__}, expected an object")


def _array_rows(lines: Iterable[str], line: int, table: TableConfig) -> Iterator[RawRow]:
    """The elements of one array. After a broken one reading goes on at the next that can be found."""
    text = "".join(lines)
    at = text.index("[") + 1
    passed = 0  # characters up to which `line` counts
    while True:
        at = _BETWEEN_ELEMENTS.match(text, at).end()  # type: ignore[union-attr]
        line, passed = line + text.count("\n", passed, at), at
        if at == len(text):
            yield RawRow(line, {}, "bad_json", "the array is never closed: the file is cut off")
            return
        if text[at] == "]":
            break
        try:
            cells, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            at = _next_element(text, at)
            lost = "" if at >= 0 else "; the array is never closed after it"
            yield RawRow(line, {}, "bad_json", f"{error}{lost}")
            if at < 0:
                return
            continue
        problem = undecoded(text[at:end], table)
        yield RawRow(line, {}, "bad_encoding", problem) if problem else _as_row(line, cells)
        at = end
    for number, rest in enumerate(text[at + 1 :].split("\n")):
        if rest.strip():
            yield RawRow(line + number, {}, "bad_json", "stands after the end of the array")


def _next_element(text: str, broken_at: int) -> int:
    """Where the object after a broken element starts, or the bracket that ends the array; -1 where there is neither.

    It is looked for after the bracket that closes the element, else at the next line of the same indentation, else
    after the next comma before an object.
    """
    if text[broken_at] in "{[":
        indentation = text[text.rfind("\n", 0, broken_at) + 1 : broken_at]
        next_line = -1 if indentation.strip() else text.find(f"\n{indentation}{{", broken_at)
        end = _closed_at(text, broken_at, next_line if next_line >= 0 else broken_at + _LOOKED_AT_CHARS)
        if end >= 0 and (found := _TO_NEXT.match(text, end)):
            return found.end()
        if next_line >= 0:
            return next_line + 1
    found = _TO_NEXT.search(text, broken_at)
    return found.end() if found else -1


def _closed_at(text: str, start: int, end: int) -> int:
    """Where all brackets that open from `start` on are closed again; -1 where they are not before `end`, or a quote too
    many hides which they are."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text, start, end):
        if found[0] == '"':
            return -1
        depth += _DEPTHS.get(found[0], 0)
        if depth == 0:
            return found.end()
    return -1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in an object")
    return cells


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
