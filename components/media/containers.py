"""Opens a media file by its content: its name has no say, and nothing beyond its own bytes is read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Union

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition

from components.media.errors import (
    DecodeFailed,
    EmptyFile,
    Encrypted,
    MissingFile,
    NotAFile,
    NotMedia,
    UnreadableContainer,
    UnreadableFile,
)
from components.media.signatures import HEAD_BYTES, encryption_of, looks_like_media, other_than_media


class ReadableFile(Protocol):
    """What is read of a file: `read`, `seek` and `tell` as io.RawIOBase has them."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def tell(self) -> int: ...


Source = Union[str, "os.PathLike[str]", bytes, ReadableFile]  # a local path, the file's bytes, or the open file

# What a catalogue of uploads may contain. Playlists, scripts and capture devices (hls, dash, concat, sdp, lavfi, ...)
# are left out: they name other files and hosts, which an upload must never make us read.
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
RESTART_S = 1.0  # a key frame whose presentation time goes back by more belongs to another file, joined to the first

_ENCRYPTED_TAGS = {"enca", "encv", "drms", "drmi", "drmt", "aavd", "aaxc"}  # sample entries of MP4
_SECONDARY = (  # tracks that a player takes only where there is no other
    *(Disposition.comment, Disposition.lyrics, Disposition.karaoke, Disposition.dub, Disposition.hearing_impaired),
    *(Disposition.visual_impaired, Disposition.clean_effects, Disposition.non_diegetic, Disposition.descriptions),
    Disposition.dependent,
)


class _Nameless:
    """A file for FFmpeg without the name that it would guess from; keeps the error of a read, which FFmpeg does not
    pass on."""

    def __init__(self, file: ReadableFile) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self.failure: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = error
            raise


@dataclass
class Media:
    """An open medium. After `restart`, streams have to be asked for again."""

    file: ReadableFile
    container: InputContainer
    head: bytes  # the first bytes of the file
    size_bytes: int

    @property
    def format_name(self) -> str:
        """FFmpeg's name of the container format, like "mp3" or "matroska,webm"."""
        return self.container.format.name

    def stream(self, kind: str) -> Any:
        """The stream of that kind ("audio", "video") that a player would choose, or None where none can be decoded.

        Main tracks come before commentaries and the like, tracks marked as default before others, earlier ones before
        later ones; cover art and thumbnails are no video.
        """
        found = [stream for stream in getattr(self.container.streams, kind) if _is_decodable(stream)]
        if not found:
            return None
        stream = max(found, key=_preference)
        stream.codec_context.thread_count = 1  # an item is one core's work: workers share the machine
        return stream

    def restart(self) -> None:
        """Open the container anew: not every format can go back, and after its end not every decoder goes on."""
        self.container.close()
        self.container = _open_container(self.file)


def _is_decodable(stream: Any) -> bool:
    is_picture_of = Disposition.attached_pic | Disposition.timed_thumbnails
    return stream.codec_context is not None and not stream.disposition & is_picture_of


def _preference(stream: Any) -> tuple[bool, bool]:
    is_secondary = any(stream.disposition & flag for flag in _SECONDARY)
    return not is_secondary, bool(stream.disposition & Disposition.default)


@contextmanager
def open_media(source: Source) -> Iterator[Media]:
    """The medium behind a path, bytes or an open file, open for reading.

    Raises a FileError where there is nothing to read, NotMedia or UnreadableContainer where FFmpeg finds no container
    of FORMATS, Encrypted where the container says so.
    """
    with opened(source) as file:
        head = read_head(file)
        if not head:
            raise EmptyFile("0 bytes")
        if other := other_than_media(head):
            raise NotMedia(other)
        if encryption := encryption_of(head):
            raise Encrypted(encryption)
        size_bytes = file.seek(0, os.SEEK_END)
        media = Media(file, _open_container(file), head, size_bytes)
        try:
            _refuse_encrypted(media)
            yield media
        finally:
            media.container.close()


def _open_container(file: ReadableFile) -> InputContainer:
    file.seek(0)
    nameless = _Nameless(file)
    try:
        # container_options, not options: PyAV frees the latter per stream, also of streams that FFmpeg found later
        # (FLV), and crashes.
        return av.open(nameless, "r", container_options=OPTIONS, buffer_size=BUFFER_BYTES, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if nameless.failure is not None:
            raise UnreadableFile(explain(nameless.failure)) from error
        is_media = looks_like_media(read_head(file))
        raise (UnreadableContainer if is_media else NotMedia)(explain(error)) from error


def _refuse_encrypted(media: Media) -> None:
    for stream in media.container.streams:
        if (tag := _codec_tag(stream)) in _ENCRYPTED_TAGS:
            raise Encrypted(f"a track of the kind {tag!r}")


def _codec_tag(stream: Any) -> str | None:
    """The four characters that name a track's codec; None where it has none, or they are no characters."""
    try:
        return getattr(stream.codec_context, "codec_tag", None)
    except UnicodeDecodeError:  # of a damaged header
        return None


def _packets(media: Media, stream: Any) -> Iterator[Packet]:
    """The stream's packets up to its end, or to the place where the container is broken."""
    try:
        yield from media.container.demux(stream)
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        # PyAV knows the streams at opening, damaged FLV may show more later: an IndexError.
        return  # what follows the damage cannot be found


def packets(media: Media, stream: Any) -> Iterator[Packet]:
    """The stream's packets from here on, with presentation times that go on where files were joined.

    Within a file those of key frames never go back; others do where pictures are not stored in their order. A packet
    without any time gets the end of the one before it, as in raw video. Raises Encrypted where a packet says so.
    """
    shift, end = 0, None  # in ticks of the stream
    ticks = frame_ticks(stream)
    restart_ticks = RESTART_S / stream.time_base if stream.time_base else 0
    may_be_encrypted = "mp4" in media.format_name  # of FORMATS, only there does a packet say so; asking costs 2 us each
    for packet in _packets(media, stream):
        if may_be_encrypted and packet.has_sidedata("encryption_info"):
            raise Encrypted("encrypted packets (common encryption)")
        if packet.size:
            begin = packet.pts if packet.pts is not None else packet.dts
            if begin is None:
                begin = packet.pts = packet.dts = end or 0
            else:
                if packet.is_keyframe and end is not None and begin + shift < end - restart_ticks:
                    shift = end - begin
                begin += shift
                if shift:
                    packet.pts = None if packet.pts is None else packet.pts + shift
                    packet.dts = None if packet.dts is None else packet.dts + shift
            end = max(begin + (packet.duration or ticks), begin if end is None else end)
        yield packet


def frames(stream: Any, encoded: Iterator[Packet]) -> Iterator[Any]:
    """The decoded frames of these packets; damaged packets are left out.

    Raises DecodeFailed where there were packets and not one frame came out.
    """
    decoded, failure = 0, None
    for packet in encoded:
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


def frame_ticks(stream: Any) -> int:
    """How long a picture is shown by the frame rate, in ticks of the stream; 0 for audio, whose packets say it."""
    rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None)
    return round(1 / rate / stream.time_base) if rate and stream.time_base else 0


def packet_time_s(packet: Packet) -> float:
    """The presentation time of a packet of `packets`, in seconds; its decoding time where it has none."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return float((ticks or 0) * packet.time_base)


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
    if log and "not on whitelist" in log[2]:
        return "a format that names other files, or one that is not decoded here"
    return f"{text} ({log[2].strip()})" if log else text


@contextmanager
def opened(source: Source) -> Iterator[ReadableFile]:
    """The file behind a source, at its beginning. Raises MissingFile, NotAFile, UnreadableFile."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with open_path(os.fspath(source)) as file:
            yield file
    else:
        source.seek(0)
        yield source


def read_head(file: ReadableFile) -> bytes:
    """The first HEAD_BYTES of a file. Raises UnreadableFile."""
    try:
        file.seek(0)
        return file.read(HEAD_BYTES)
    except OSError as error:
        raise UnreadableFile(explain(error)) from error


def open_path(path: str) -> io.FileIO:
    """A local file, unbuffered. Raises MissingFile, NotAFile, UnreadableFile."""
    try:
        # A name may be any string, and pathlib would normalise it.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            raise NotAFile("a folder, a pipe or a device")
        return open(path, "rb", buffering=0)  # noqa: PTH123, SIM115
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile("no such file") from error
    except ValueError as error:  # a null byte
        raise MissingFile(str(error)) from error
    except OSError as error:
        raise UnreadableFile(explain(error)) from error
