"""Finds the files behind a path: a file of that very name before a pattern, a folder as all that lies below it."""

from __future__ import annotations

import glob
from pathlib import Path

MAGIC = "*?["


def is_remote(path: str) -> bool:
    """Whether a path names a file system other than this machine's, like gs://."""
    return "://" in path


def matching_files(path: str) -> list[str]:
    """The files behind a path, sorted; none where there is none.

    path: a file, a folder (all files below it) or a glob, local or on a file system that Beam knows. Locally a part of
    the path that exists under its very name is no pattern: `[2025] events.csv`, `Music [FLAC]/*.csv`.
    Raises OSError where a remote file system cannot be asked.
    """
    if is_remote(path):
        from apache_beam.io.filesystems import FileSystems

        return sorted(found.path for found in FileSystems.match([path])[0].metadata_list)
    if Path(path).is_file():
        return [path]
    if Path(path).is_dir():
        path = path.rstrip("/") + "/**"
    return sorted(found for found in glob.glob(_with_literal_start(path), recursive=True) if Path(found).is_file())


def fixed_folder(path: str) -> str:
    """The part of a path that names a folder, whatever stands after it; with its slash at the end."""
    start = _existing_start(path) if not is_remote(path) else ""
    rest = path[len(start) :]
    end = next((index for index, character in enumerate(rest) if character in MAGIC), len(rest))
    return start + rest[: rest[:end].rfind("/") + 1]


def _with_literal_start(path: str) -> str:
    start = _existing_start(path)
    return glob.escape(start) + path[len(start) :]


def _existing_start(path: str) -> str:
    """The longest beginning of a path, with its slash, that is a folder."""
    ends = [index + 1 for index, character in enumerate(path) if character == "/"]
    return next((path[:end] for end in reversed(ends) if Path(path[:end]).is_dir()), "")
