"""Media in buckets and other file systems of Beam, as temporary local copies: with limits of time and size, and
retries."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TypeVar, cast

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.media.errors import MediaError, MissingFile, TimedOut, TooLarge, UnreadableFile, UnsupportedUri

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DownloadLimits:
    """What one download may cost."""

    size_bytes: int = 4 << 30
    answer_s: float = 15.0  # until the first byte is there
    time_s: float = 600.0  # for the whole
    attempts: int = 3
    pause_s: float = 0.5  # before the second attempt, doubled before each further one
    silences: int = 2  # downloads in a row without an answer, after which a bucket is left alone
    rest_s: float = 60.0  # for how long


@dataclass
class _Attempt:
    """A download in its own thread: file systems of others know no time limit."""

    address: str
    copy: IO[bytes]
    size_limit_bytes: int
    answered: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def run(self) -> None:
        try:
            with FileSystems.open(self.address, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
                self._copy(remote)
            self.copy.flush()
        except Exception as error:  # noqa: BLE001 - whatever a file system raises concerns this address: `_told`
            self.error = error
        finally:
            self.answered.set()
            self.ended.set()
            if self.given_up.is_set():
                self.copy.close()

    def _copy(self, remote: IO[bytes]) -> None:
        copied = 0
        while (chunk := remote.read(_CHUNK_BYTES)) and not self.given_up.is_set():
            self.answered.set()
            copied += len(chunk)
            if copied > self.size_limit_bytes:
                raise TooLarge(f"more than {self.size_limit_bytes / (1 << 30):.3g} GiB")
            self.copy.write(chunk)


class Downloads:
    """Fetches media. One for each worker thread: it remembers which buckets do not answer."""

    def __init__(self, limits: DownloadLimits = DownloadLimits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._silences: dict[str, int] = {}
        self._resting_until: dict[str, float] = {}

    @contextmanager
    def fetched(self, address: str) -> Iterator[int]:
        """The descriptor of a temporary copy.

        Raises MissingFile, UnreadableFile, UnsupportedUri, TooLarge, TimedOut.
        """
        bucket = "/".join(address.split("/")[:3])
        if time.monotonic() < self._resting_until.get(bucket, 0.0):
            raise TimedOut(f"{bucket} did not answer before; it is tried again later")
        copy = self._copy(address, bucket)
        try:
            yield copy.fileno()
        finally:
            copy.close()

    def _copy(self, address: str, bucket: str) -> IO[bytes]:
        deadline = time.monotonic() + self._limits.time_s
        for attempt in range(self._limits.attempts):
            if attempt:
                time.sleep(self._limits.pause_s * 2 ** (attempt - 1))
            try:
                return self._attempt(address, bucket, deadline)
            except UnreadableFile:
                if attempt + 1 == self._limits.attempts or time.monotonic() >= deadline:
                    raise
        raise AssertionError("at least one attempt")

    def _attempt(self, address: str, bucket: str, deadline: float) -> IO[bytes]:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        attempt = _Attempt(address, copy, self._limits.size_bytes)
        threading.Thread(target=attempt.run, daemon=True, name=f"download {address}").start()
        if not attempt.answered.wait(self._limits.answer_s):
            attempt.given_up.set()
            self._count_silence(bucket)
            raise TimedOut(f"no answer within {self._limits.answer_s:g} s")
        self._silences[bucket] = 0
        if not attempt.ended.wait(max(0.0, deadline - time.monotonic())):
            attempt.given_up.set()
            raise TimedOut(f"not here within {self._limits.time_s:g} s")
        if attempt.error is not None:
            attempt.copy.close()
            raise _told(attempt.error) from attempt.error
        return attempt.copy

    def _count_silence(self, bucket: str) -> None:
        self._silences[bucket] = self._silences.get(bucket, 0) + 1
        if self._silences[bucket] >= self._limits.silences:
            self._resting_until[bucket] = time.monotonic() + self._limits.rest_s


def within(limit_s: float, call: Callable[[], T]) -> T:
    """The result of a call into a file system of others, which knows no time limit.

    Raises TimedOut where it does not come in time, else the call's own error as the reason of a reject.
    """
    ended: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue(1)

    def run() -> None:
        try:
            ended.put((call(), None))
        except Exception as error:  # noqa: BLE001 - told to the caller
            ended.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = ended.get(timeout=limit_s)
    except queue.Empty:
        raise TimedOut(f"no answer within {limit_s:g} s") from None
    if error is not None:
        raise _told(error) from error
    return cast(T, result)


def _told(error: Exception) -> MediaError:
    """A file system's error as the reason of a reject."""
    if isinstance(error, MediaError):
        return error
    if isinstance(error, FileNotFoundError) or getattr(error, "code", None) == 404:
        return MissingFile("no such file")
    if isinstance(error, (ValueError, ImportError, NotImplementedError)):
        # Beam knows no file system for the scheme, or what that needs is not installed or set up.
        return UnsupportedUri(f"{error}")
    return UnreadableFile(f"{type(error).__name__}: {error}")
