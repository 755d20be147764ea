"""How long a track is: what its header states, whether that can be believed, and what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import av

from components.media.containers import Media, ReadableFile, frame_ticks, origin_s, packets, seek
from components.media.headers import MP3_HEADER_BYTES, id3_bytes, mp3_bytes, stated_seconds

# Formats that state no length: FFmpeg divides the file size by the first bit rate it sees, wrong where it varies.
_GUESSED = {"aac", "loas", "ac3", "eac3", "dts", "amr", "mpegvideo", "m4v", "h263", "h264", "hevc", "obu"}
_JOINED_MARKS = {  # bytes of the first file's body, and those with which another one begins
    "ogg": (b"OggS\0\0", b"OggS\0\2"),
    "flac": (b"fLaC", b"fLaC\0\0\0\x22"),
}
_SCANNED_BYTES = 1 << 28  # of a file, looking for a joined one
_TAIL_S = 2.0  # read before the stated end, to see whether it is there
_SLACK_S, _SLACK_SHARE = 0.25, 0.02  # encoders pad, containers round
_TAG_BYTES = 4096  # ID3v1 and APE tags after the last frame of an MP3


class Note(NamedTuple):
    """What a user of an accepted medium should know."""

    code: str  # one of components.account.MEDIA_NOTES
    detail: str


@dataclass(frozen=True)
class StatedLength:
    """What a header says of a track's length."""

    seconds: float
    is_of_stream: bool = True  # else of the whole container, of which a track may be a part


def stated_length(media: Media, stream: Any) -> StatedLength | None:
    """The length that the header states; None where it states none, only a guess is possible, or it is one of
    several files that were joined, of which the header of the first says nothing about the others.
    """
    if media.format_name in _GUESSED or _is_joined(media) or (media.format_name == "mp3" and not _is_stated_mp3(media)):
        return None
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        seconds = float(stream.duration * stream.time_base)
        return StatedLength(max(seconds, stated_seconds(media.head) or 0.0))
    if media.container.duration is not None and media.container.duration > 0:
        return StatedLength(media.container.duration / av.time_base, is_of_stream=False)
    return None


def ends_as_stated(media: Media, stream: Any, stated_s: float) -> bool:
    """Whether the last packets are where the header says, give or take a second: found by seeking, without decoding.

    False as well where the format cannot seek. The medium has to be restarted, or sought, before it is read again.
    """
    seek(media, stream, stated_s - _TAIL_S)
    slack_s = max(1.0, _SLACK_SHARE * stated_s)
    return abs(_end_s(media, stream) - stated_s) <= slack_s


def walked_length_s(media: Media, stream: Any) -> float:
    """The true length in seconds, from the packets of a medium that has not been read from: reading without
    decoding."""
    return max(_end_s(media, stream), 0.0)


def truncation(stated_s: float | None, found_s: float) -> tuple[Note, ...]:
    """A note with both lengths where the header states more than there is; none where they agree or nothing is
    stated."""
    if stated_s is None or stated_s - found_s <= _SLACK_S + _SLACK_SHARE * stated_s:
        return ()
    return (Note("truncated", f"the header states {stated_s:.2f} s, {found_s:.2f} s are there"),)


def _end_s(media: Media, stream: Any) -> float:
    """When the last of the packets from here on ends, in seconds from the start of the stream."""
    end, ticks = 0, frame_ticks(stream)
    for packet in packets(media, stream):
        begin = packet.pts if packet.pts is not None else packet.dts
        if begin is not None and packet.size:
            end = max(end, begin + (packet.duration or ticks))
    return float(end * stream.time_base) - origin_s(stream)


def _is_stated_mp3(media: Media) -> bool:
    """Whether an MP3 states how many frames it has, and is not longer than that: another one was joined to it."""
    start = id3_bytes(media.head)
    with _unmoved(media.file) as file:
        file.seek(start)
        stated_bytes = mp3_bytes(file.read(MP3_HEADER_BYTES))
    return stated_bytes is not None and media.size_bytes - start <= stated_bytes + _TAG_BYTES


def _is_joined(media: Media) -> bool:
    """Whether a second file of the same format follows the first."""
    if media.format_name not in _JOINED_MARKS or media.size_bytes > _SCANNED_BYTES:
        return False
    body, again = _JOINED_MARKS[media.format_name]
    in_body, overlap = False, b""
    with _unmoved(media.file) as file:
        file.seek(0)
        while chunk := file.read(1 << 20):
            block = overlap + chunk
            start = 0
            if not in_body and (start := block.find(body) + 1):
                in_body = True
            if in_body and block.find(again, start) >= 0:
                return True
            overlap = block[-len(again) + 1 :]
    return False


@contextmanager
def _unmoved(file: ReadableFile) -> Iterator[ReadableFile]:
    """The file, which is afterwards where it was: FFmpeg reads on from there."""
    place = file.tell()
    try:
        yield file
    finally:
        file.seek(place)
