"""Why a medium could not be used. Each class is one reason code, the word that the rejects report counts. Standard
library only."""

from __future__ import annotations


class MediaError(Exception):
    """One medium could not be used; the run goes on without it. `reason` is the code, the message is for people."""

    reason = "media"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class FileError(MediaError):
    """There is nothing to decode."""

    reason = "file"


class OutsideRoots(FileError):
    """An address outside the configured roots. Whether something is there is not looked up, and not told."""

    reason = "outside_media_roots"


class MissingFile(FileError):
    """No such file."""

    reason = "missing_file"


class NotAFile(FileError):
    """A folder, a pipe or a device."""

    reason = "not_a_file"


class UnreadableFile(FileError):
    """The file system refuses: permissions, a broken disk, a bucket that cannot be reached."""

    reason = "unreadable_file"


class UnsupportedUri(FileError):
    """An address that no configured file system serves."""

    reason = "unsupported_uri"


class EmptyFile(FileError):
    """0 bytes."""

    reason = "empty_file"


class TooLarge(FileError):
    """Larger than the limit of a download."""

    reason = "too_large"


class Encrypted(MediaError):
    """The packets are encrypted: what a decoder makes of them is noise."""

    reason = "encrypted"


class ContentError(MediaError):
    """There are bytes, but no usable audio or video in them."""

    reason = "content"


class NotMedia(ContentError):
    """Something else: a web page, a text, an archive, a playlist."""

    reason = "not_media"


class UnreadableContainer(ContentError):
    """It begins like a media file and cannot be opened: cut off before its index, or broken."""

    reason = "unreadable_container"


class NoStream(ContentError):
    """A media container without audio or video that can be decoded: subtitles or a cover picture alone, an unknown
    codec."""

    reason = "no_stream"


class DecodeFailed(ContentError):
    """It opens, and not one sample or picture comes out."""

    reason = "decode_failed"


class TooShort(ContentError):
    """Less audio than one analysis window, and no video."""

    reason = "too_short"


class LimitError(MediaError):
    """Reading or decoding had to be ended from outside."""

    reason = "limit"


class TimedOut(LimitError):
    """It took longer than the time limit."""

    reason = "timeout"


class OutOfMemory(LimitError):
    """It wanted more memory than the limit."""

    reason = "out_of_memory"


class Crashed(LimitError):
    """The decoder's process died."""

    reason = "crashed"


class DecoderUnavailable(RuntimeError):
    """The decoder itself cannot run on this machine. Not a MediaError: it concerns every item, so the run must stop."""


def _leaves(cls: type[MediaError]) -> list[type[MediaError]]:
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] if below else [cls]


BY_REASON: dict[str, type[MediaError]] = {cls.reason: cls for cls in _leaves(MediaError)}


def media_error(reason: str, detail: str) -> MediaError:
    """The error of that reason code, as it came back from another process."""
    return BY_REASON[reason](detail)
