"""Finds the files behind a path: a file of that very name before a pattern, a folder as all that lies below it."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam.io.filesystem import FileMetadata

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
        return sorted(found.path for found in remote_files(path))
    if Path(path).is_file():
        return [path]
    if Path(path).is_dir():
        path = path.rstrip("/") + "/**"
    return sorted(found for found in glob.glob(_with_literal_start(path), recursive=True) if Path(found).is_file())


def remote_files(path: str) -> list[FileMetadata]:
    """The same of a remote path, with sizes and times of change. Raises OSError where the file system cannot be asked.

    A bucket knows no folders: a path that is no pattern and names no file is the folder of all that begins with it, but
    for the empty objects that some tools put there in place of folders.
    """
    from apache_beam.io.filesystems import FileSystems

    if is_pattern(path) or not path.endswith("/"):
        found = FileSystems.match([path])[0].metadata_list
        if found or is_pattern(path):
            return found
    below = FileSystems.match([path.rstrip("/") + "/**"])[0].metadata_list
    return [found for found in below if not found.path.endswith("/")]


def is_pattern(path: str) -> bool:
    """Whether a path holds a character of patterns."""
    return any(character in path for character in MAGIC)


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


def without_magic(folder: Path) -> Path:
    """A folder under a name that is no pattern: itself, or a link to it among the temporary files.

    Beam, TensorFlow and TFX look for files of an artifact by patterns that begin with its folder's name, so that below
    `x [1]/` they find nothing. The link is named by the folder, and is made anew where it is gone.
    Raises OSError where somebody else has put something in its place.
    """
    if not is_pattern(str(folder)):
        return folder
    folder.mkdir(parents=True, exist_ok=True)  # a link to nothing is in nobody's use
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    link = Path(tempfile.gettempdir(), f"zhiyin-{os.geteuid()}-{digest}")
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder, target_is_directory=True)
    if not link.is_symlink() or link.lstat().st_uid != os.geteuid() or link.readlink() != folder:
        raise OSError(f"{link}: is in the way of a link to {folder}; remove it, or name a work_dir without {MAGIC}")
    return link
