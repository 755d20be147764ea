"""The reference of all settings, docs/settings.md, from the configuration's dataclasses and the comments of their
fields.

Write it anew with `python -m pipeline.settings_reference > docs/settings.md`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import sys
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.config import Config

HEADER = """# Settings

What a configuration, a YAML file as in `configs/`, may say. A setting that is left out has its default; an unknown one
is an error that names the near miss. A dotted name is a path into the file: `retrieval.epochs` stands as `epochs:`
below `retrieval:`.
Written by `python -m pipeline.settings_reference` from the code.
"""
REQUIRED = "required"


class Setting(NamedTuple):
    """One line of the reference."""

    name: str  # dotted
    default: str
    about: str


def sections(root: type = Config) -> Iterator[tuple[str, type, list[Setting]]]:
    """(dotted name, dataclass, its settings) of each section, in the order of the fields; of nested ones each under its
    own name."""
    waiting: list[tuple[str, type]] = [("", root)]
    while waiting:
        prefix, kind = waiting.pop(0)
        comments, hints = field_comments(kind), typing.get_type_hints(kind)
        settings, nested = [], []
        for field in dataclasses.fields(kind):
            name = f"{prefix}{field.name}"
            about = comments.get(field.name, "")
            inner, suffix = _section_of(hints[field.name])
            if inner:
                nested.append((f"{name}{suffix}.", inner))
                about = (about + f" (section `{name}{suffix}`)").strip()
            settings.append(Setting(name, _default(field, bool(inner)), about))
        yield prefix.rstrip("."), kind, settings
        waiting = nested + waiting


def field_comments(kind: type) -> dict[str, str]:
    """What is said in comments above each field of a dataclass and on its lines, those that it inherits included."""
    of_parents = [field_comments(parent) for parent in kind.__bases__ if parent is not object]
    return {name: about for found in [*of_parents, _own_comments(kind)] for name, about in found.items()}


def _own_comments(kind: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(kind))
    said = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found, end = {}, definition.lineno
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(end + 1, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(said[line] for line in lines if line in said)
        end = node.end_lineno or node.lineno
    return found


def render() -> str:
    """The whole page."""
    lines = [HEADER]
    for prefix, kind, settings in sections():
        lines += [
            f"## {prefix or 'Top level'}",
            "",
            " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()),
            "",
        ]
        lines += ["| setting | default | what |", "| --- | --- | --- |"]
        lines += [f"| `{each.name}` | {each.default} | {each.about.replace('|', chr(92) + '|')} |" for each in settings]
        lines.append("")
    return "\n".join(lines)


def _section_of(hint: Any) -> tuple[type | None, str]:
    """The dataclass behind a field's type, and how an element of a list or a mapping of them is addressed."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint, ""
    for inner in typing.get_args(hint):
        found, _ = _section_of(inner)
        if found:
            origin = typing.get_origin(hint)
            is_union = origin in (typing.Union, types.UnionType)
            return found, "" if is_union else ".NAME" if origin is dict else "[]"
    return None, ""


def _default(field: dataclasses.Field[Any], is_section: bool) -> str:
    if field.default is not dataclasses.MISSING:
        value: Any = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return REQUIRED
    if value is None:
        return "none"
    if is_section:
        return "its defaults" if dataclasses.is_dataclass(value) else f"{', '.join(value)}" if value else "none"
    if value in ("", (), {}):
        return "empty"
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`".replace("\t", "\\t").replace("|", chr(92) + "|")


if __name__ == "__main__":
    sys.stdout.write(render())
