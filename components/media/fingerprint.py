"""Whether the media of a catalogue are those of the last run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from components.artifacts import file_fingerprint
from components.config import DataConfig
from components.media.addresses import MediaRoots, is_address
from components.media.downloads import within
from components.media.errors import MediaError
from components.tables.columns import table_and_columns
from components.tables.inspection import inspect_table
from components.tables.raw import TableError
from components.tables.readers import Row, read_rows

LISTING_S = 60.0  # for the listing of a bucket at the start of a run
_NOT_READ = (-1, 0)  # in place of size and time: when the medium can be read, the fingerprint changes


def catalogue_media_fingerprint(data: DataConfig) -> str:
    """`media_fingerprint` of the media that the catalogue's table names; "" where it names none.

    "" too where the table cannot be read: the node that reads it says what is wrong.
    """
    table, columns = table_and_columns(data, "catalogue")
    only = tuple(column for column in columns if column.name == "media_uri")
    try:
        facts = inspect_table(table, columns)
        rows = (row for path in facts.files for row in read_rows(path, only, facts))
        media_uris = {row.values["media_uri"] for row in rows if isinstance(row, Row) and "media_uri" in row.values}
    except TableError:
        return ""
    return media_fingerprint(media_uris, MediaRoots(data.media_root, data.media_roots)) if media_uris else ""


def media_fingerprint(media_uris: Iterable[str], roots: MediaRoots) -> str:
    """32 hex digits that change when a medium that the catalogue names is added, removed, replaced, touched, or made
    readable.

    A local medium counts with its address, its size and its time of change (ns), wherever below the roots it lies;
    those in buckets count with the listing of the roots that are buckets. Contents are not read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for media_uri in sorted(set(media_uris)):
        digest.update(json.dumps([media_uri, *_size_and_time(media_uri, roots)]).encode())
    for root in filter(is_address, roots.all):
        digest.update(_listing(root).encode())
    return digest.hexdigest()


def _listing(bucket: str) -> str:
    """A fingerprint of what lies in a bucket; a constant where it does not answer: its media will be rejects."""
    try:
        return within(LISTING_S, lambda: file_fingerprint([f"{bucket.rstrip('/')}/**"]))
    except MediaError:
        return "no answer"


def _size_and_time(media_uri: str, roots: MediaRoots) -> tuple[int, int]:
    try:
        place = roots.place(media_uri)
        if is_address(place) or not os.access(place, os.R_OK):
            return _NOT_READ
        status = Path(place).stat()
    except (OSError, ValueError, MediaError):
        return _NOT_READ
    return status.st_size, status.st_mtime_ns
