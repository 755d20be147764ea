"""Where a `media_uri` of the catalogue lies, and the boundary of what may be read: the configured roots.

Standard library only. A root is a local folder or an address like gs://bucket/folder.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import unicodedata
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.media.errors import MissingFile, NotAFile, OutsideRoots, UnreadableFile

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SEES_DESCRIPTORS = Path("/proc/self/fd").is_dir()
_FILE_SCHEME = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)


@dataclass(frozen=True)
class MediaRoots:
    """What media may be read.

    Without any root nothing may be: an address in a table must not decide what is read of this machine.
    """

    media_root: str = ""  # relative addresses are resolved against it
    media_roots: tuple[str, ...] = ()  # further folders and buckets

    @property
    def all(self) -> tuple[str, ...]:
        """Every root."""
        return tuple(root for root in (self.media_root, *self.media_roots) if root)

    def named(self, media_uri: str) -> str:
        """The address as it is shown to people: resolved against the root, not looked up."""
        return self._candidates(media_uri)[0]

    def place(self, media_uri: str) -> str:
        """Where the medium is: an address, or the real path of a local file or of where it would be.

        Raises OutsideRoots, whether or not something is there; MissingFile for a name that no file can have.
        """
        candidates = self._candidates(media_uri)
        if is_address(candidates[0]):
            self._check_address(candidates[0])
            return candidates[0]
        if any("\0" in path for path in candidates):
            raise MissingFile("a null byte in the name")
        places = [os.path.realpath(path) for path in candidates]
        there = next((place for place in places if self._holds(place) and os.path.lexists(place)), places[0])
        if not self._holds(there):
            raise self._outside()
        return there

    def missing(self, media_uri: str) -> MissingFile:
        """The error of an address where nothing is, with what was tried."""
        tried = dict.fromkeys(self._candidates(media_uri)[:2])
        return MissingFile(f"no such file: {' nor '.join(tried)}")

    @contextmanager
    def open_local(self, media_uri: str) -> Iterator[int]:
        """The descriptor of a local medium, open for reading.

        Raises as `place`, and MissingFile, NotAFile, UnreadableFile.
        """
        place = self.place(media_uri)
        try:
            descriptor = _open_file(place)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self.missing(media_uri) from error
        except OSError as error:
            raise UnreadableFile(error.strerror or str(error)) from error
        try:
            opened = os.path.realpath(f"/proc/self/fd/{descriptor}")
            if _SEES_DESCRIPTORS and not self._holds(opened):  # a link was put there since its place was looked up
                raise self._outside()
            yield descriptor
        finally:
            os.close(descriptor)

    def _candidates(self, media_uri: str) -> list[str]:
        """The addresses, or the local paths by falling likelihood, that a `media_uri` may mean.

        A file:// address may be percent-encoded or not; a name may be composed (NFC) or decomposed (NFD) on the disk.
        """
        scheme = _FILE_SCHEME.match(media_uri)
        if scheme:
            written = media_uri[scheme.end() :]
            paths = [urllib.parse.unquote(written), written]
        elif is_address(media_uri):
            return [media_uri]
        elif is_address(self.media_root) and not os.path.isabs(media_uri):  # noqa: PTH117
            return [f"{self.media_root.rstrip('/')}/{media_uri}"]
        else:
            paths = [os.path.join(self.media_root, media_uri)]  # noqa: PTH118 - pathlib would normalise the name
        spellings = [(path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))) for path in paths]
        return list(dict.fromkeys(itertools.chain(*spellings)))

    def _holds(self, place: str) -> bool:
        roots = [os.path.realpath(root) for root in self.all if not is_address(root)]
        return any(place.startswith(root.rstrip("/") + "/") for root in roots)

    def _check_address(self, address: str) -> None:
        roots = [root.rstrip("/") + "/" for root in self.all if is_address(root)]
        goes_up = any(segment in (".", "..") for segment in address.split("/"))
        if goes_up or not any(address.startswith(root) for root in roots):
            raise self._outside()

    def _outside(self) -> OutsideRoots:
        if not self.all:
            return OutsideRoots("no folder for media is configured: data.media_root, data.media_roots")
        return OutsideRoots("outside data.media_root; further folders and buckets can be named in data.media_roots")


def is_address(path: str) -> bool:
    """Whether it has a scheme, like gs://, and is no file:// address."""
    return _SCHEME.match(path) is not None and path[:7].lower() != "file://"


def _open_file(place: str) -> int:
    if not stat.S_ISREG(os.stat(place).st_mode):  # noqa: PTH116
        raise NotAFile("a folder, a pipe or a device")
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # replaced in between
        os.close(descriptor)
        raise NotAFile("a folder, a pipe or a device")
    return descriptor
