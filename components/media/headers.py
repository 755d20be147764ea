"""Lengths that headers state and FFmpeg does not pass on: it cuts them to what is there. Standard library only."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MP3_HEADER_BYTES = 512  # from the first frame on: the frame with the Xing, Info or VBRI header


def mp3_bytes(start: bytes) -> int | None:
    """The size of an MP3 by its Xing, Info or VBRI header, which states the number of frames too; None without.

    start: the bytes from the first frame on.
    """
    place = max(start.find(b"Xing"), start.find(b"Info"))
    if 0 <= place <= len(start) - 16:
        flags, frames, size = struct.unpack(">3I", start[place + 4 : place + 16])
        return size if flags & 3 == 3 and frames and size else None
    place = start.find(b"VBRI")
    if 0 <= place <= len(start) - 18:
        size, frames = struct.unpack(">2I", start[place + 10 : place + 18])
        return size if frames and size else None
    return None


def id3_bytes(head: bytes) -> int:
    """The size of the ID3v2 tag before an MP3, 0 without."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))


def stated_seconds(head: bytes) -> float | None:
    """The length by the header of a WAV, AVI or CAF file with a stated size; None for others."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_seconds(head)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi_seconds(head)
    if head[:4] == b"caff":
        return _caf_seconds(head)
    return None


def _wav_seconds(head: bytes) -> float | None:
    bytes_per_s = 0
    for name, size, place in _chunks(head, 12, "<4sI", padded=True):
        if name == b"fmt " and place + 12 <= len(head):
            bytes_per_s = struct.unpack("<I", head[place + 8 : place + 12])[0]
        if name == b"data":  # recorded to a pipe: 0 or all ones
            return size / bytes_per_s if bytes_per_s and 0 < size < 0xFFFFFF00 else None
    return None


def _avi_seconds(head: bytes) -> float | None:
    place = head.find(b"avih")
    if place < 0 or place + 28 > len(head):
        return None
    frame_us, frames = struct.unpack("<I12xI", head[place + 8 : place + 28])
    return frame_us * frames / 1e6 or None


def _caf_seconds(head: bytes) -> float | None:
    bytes_per_s = 0.0
    for name, size, place in _chunks(head, 8, ">4sq", padded=False):
        if name == b"desc" and place + 24 <= len(head):
            rate_hz, packet_bytes, packet_samples = struct.unpack(">d8xII", head[place : place + 24])
            bytes_per_s = rate_hz * packet_bytes / packet_samples if packet_samples else 0.0
        if name == b"data":  # with 4 bytes before the samples; -1: up to the end
            return (size - 4) / bytes_per_s if bytes_per_s > 0 and size > 4 else None
    return None


def _chunks(head: bytes, place: int, layout: str, padded: bool) -> Iterator[tuple[bytes, int, int]]:
    """(name, size, where it begins) of the chunks whose headers are in these bytes."""
    header_bytes = struct.calcsize(layout)
    while place + header_bytes <= len(head):
        name, size = struct.unpack(layout, head[place : place + header_bytes])
        place += header_bytes
        yield name, size, place
        if size < 0:
            return
        place += size + (size % 2 if padded else 0)
