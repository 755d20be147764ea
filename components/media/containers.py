"""Open a media file by its content: its name has no say, and nothing beyond its own bytes is read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Union

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from components.media.errors import (
    DecodeFailed,
    EmptyFile,
    MissingFile,
    NotAFile,
    NotMedia,
    UnreadableContainer,
    UnreadableFile,
)

Source = Union[str, "os.PathLike[str]", bytes]  # a local path, or the file's bytes

# What a catalogue of uploads may contain. Playlists, scripts and capture devices (hls, dash, concat, sdp, lavfi, ...) are left out:
# they name other files and hosts, which an upload must never make us read.
FORMATS = (
    "wav,w64,aiff,au,caf,mp3,aac,loas,ac3,eac3,dts,flac,ogg,asf,amr,ape,wv,tta,tak,mpc,mpc8,dsf,iff,voc,xwma,"
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,m4v,h263,h264,hevc,obu,ivf,dv,mxf,rm,nut,wtv,"
    "gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
OPTIONS = {
    "format_whitelist": FORMATS,
    "protocol_whitelist": "none",  # no protocol has that name
    "fflags": "fastseek",  # jump in an MP3 by its table of contents instead of reading up to the place
}
BUFFER_BYTES = 1 << 16

# Formats that state no length: FFmpeg divides the file size by the first bit rate it sees, which is wrong where the rate varies.
GUESSED_LENGTH = {"mp3", "aac", "loas", "ac3", "eac3", "dts", "amr", "mpegvideo", "m4v", "h263", "h264", "hevc", "obu"}
MP3_FRAME_COUNTS = (b"Xing", b"Info", b"VBRI")

SIGNATURES = (  # (offset, bytes): what files of the formats above begin with
    *(
        (0, magic)
        for magic in (
            b"RIFF",
            b"RIFX",
            b"RF64",
            b"FORM",
            b".snd",
            b"caff",
            b"ID3",
            b"fLaC",
            b"OggS",
            b"MAC ",
            b"wvpk",
            b"TTA1",
        )
    ),
    *((0, magic) for magic in (b"tBaK", b"MP+", b"MPCK", b"DSD ", b"#!AMR", b"Creative Voice", b"\x0b\x77")),
    (0, b"\x7f\xfe\x80\x01"),
    *(
        (0, magic)
        for magic in (
            b"\x30\x26\xb2\x75",
            b"\x1a\x45\xdf\xa3",
            b"FLV",
            b"\x00\x00\x01",
            b"\x00\x00\x00\x01",
            b"DKIF",
            b".RMF",
        )
    ),
    *(
        (0, magic)
        for magic in (
            b"GIF8",
            b"\x89PNG",
            b"\xff\xd8\xff",
            b"BM",
            b"II*\x00",
            b"MM\x00*",
            b"\x06\x0e\x2b\x34",
            b"nut/multimedia",
        )
    ),
    *((4, magic) for magic in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
)


@dataclass
class Media:
    """An open medium."""

    container: InputContainer
    head: bytes  # the first bytes after an ID3v2 tag

    def stream(self, kind: str) -> Any:
        """The first stream of that kind ("audio", "video") that has a decoder, or None; cover art is not a video."""
        for stream in getattr(self.container.streams, kind):
            if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
                stream.codec_context.thread_count = 1  # an item is one core's work: workers share the machine
                return stream
        return None

    def stated_duration_s(self, stream: Stream) -> float | None:
        """The length that the container states, in seconds; None where it states none or only a guess is possible."""
        guessed = self.container.format.name in GUESSED_LENGTH and not any(tag in self.head for tag in MP3_FRAME_COUNTS)
        if guessed:
            return None
        if stream.duration is not None and stream.time_base is not None:
            stated = float(stream.duration * stream.time_base)
        elif self.container.duration is not None:
            stated = self.container.duration / av.time_base
        else:
            return None
        return stated if stated > 0 else None


@contextmanager
def open_media(source: Source) -> Iterator[Media]:
    """The medium behind a path or bytes, open for reading.

    Raises a FileError where there is nothing to read, NotMedia or UnreadableContainer where FFmpeg finds no container of FORMATS.
    """
    with _open_bytes(source) as file:
        if not file.read(1):
            raise EmptyFile("0 bytes")
        head = _after_id3(file)
        file.seek(0)
        try:
            # container_options, not options: PyAV frees the latter per stream, also of streams that FFmpeg found later (FLV), and crashes.
            container = av.open(
                _Nameless(file), "r", container_options=OPTIONS, buffer_size=BUFFER_BYTES, metadata_errors="replace"
            )
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            file.seek(0)
            raise (UnreadableContainer if _looks_like_media(file.read(64)) else NotMedia)(explain(error)) from error
        with container:
            yield Media(container, head)


def packets(media: Media, stream: Any) -> Iterator[Packet]:
    """The stream's packets up to its end, or to the place where the container is broken."""
    try:
        yield from media.container.demux(stream)
    except MemoryError:
        raise
    except (
        av.error.FFmpegError,
        OSError,
        ValueError,
        IndexError,
    ):  # PyAV knows the streams at opening; damaged FLV may show more later
        return  # what follows the damage cannot be found


def frames(media: Media, stream: Any) -> Iterator[Any]:
    """The stream's decoded frames; damaged packets are left out.

    Raises DecodeFailed where there were packets and not one frame came out.
    """
    decoded, failure = 0, None
    for packet in packets(media, stream):
        try:
            batch = packet.decode()
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            failure = error
            continue
        for frame in batch:
            decoded += 1
            yield frame
    if failure is not None and not decoded:
        raise DecodeFailed(explain(failure))


def walk_duration_s(media: Media, stream: Any) -> float:
    """The true length in seconds, from the packets that are left: reading without decoding."""
    begin = stream.start_time or 0
    end = counted = 0  # in ticks: fractions are slow, and an hour of MP3 has 138,000 packets
    for packet in packets(media, stream):
        ticks, shown = packet.duration or 0, packet.pts
        counted += ticks
        if shown is not None and shown + ticks > end:
            end = shown + ticks
    return float(((end - begin) if end else counted) * stream.time_base)


def origin_s(stream: Any) -> float:
    """The presentation time in seconds at which the stream begins; times that leave this package count from it."""
    return float(stream.start_time * stream.time_base) if stream.start_time is not None and stream.time_base else 0.0


def seek(media: Media, stream: Any, time_s: float) -> None:
    """Go to the last key frame at or before that time, if the format can; else stay."""
    place_s = origin_s(stream) + max(time_s, 0.0)
    try:
        media.container.seek(int(place_s / stream.time_base), stream=stream)
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, OverflowError):
        return


def explain(error: BaseException) -> str:
    """FFmpeg's own words: what went wrong, and the last line of its log where it wrote one."""
    text = getattr(error, "strerror", None) or str(error)
    log = getattr(error, "log", None)
    return f"{text} ({log[2].strip()})" if log else text


class _Nameless:
    """A file for FFmpeg without the name that it would guess from."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _open_bytes(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = os.fspath(source)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a name may be any string, pathlib would normalise it
            raise NotAFile("a folder, a pipe or a device")
        return open(path, "rb", buffering=0)  # noqa: PTH123, SIM115
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile("no such file") from error
    except ValueError as error:  # a null byte
        raise MissingFile(str(error)) from error
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error)) from error


def _after_id3(file: BinaryIO) -> bytes:
    file.seek(0)
    tag = file.read(10)
    size = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        size = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0)))
    file.seek(size)
    return file.read(4096)


def _looks_like_media(head: bytes) -> bool:
    is_mpeg_audio = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return is_mpeg_audio or any(head[offset : offset + len(magic)] == magic for offset, magic in SIGNATURES)
