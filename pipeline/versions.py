"""The versions of a served model: folders that are named by plain integers."""

from __future__ import annotations

from pathlib import Path


def versions_in(folder: Path) -> list[Path]:
    """The versions in a served model's folder, the newest last; none where there is no folder."""
    found = (path for path in folder.glob("*") if path.name.isascii() and path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))
