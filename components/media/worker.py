"""The decoder's own process: reads requests, answers with arrays or a reason. Started by `isolation.Decoder`.

A request is one message: a letter for the task (b"F" stored features, b"S" segments of the sound, b"P" large
pictures), then b"B" and the
bytes of the file, or b"D" alone, after which an open descriptor follows. An answer is a JSON message, then one message
an array. Nothing here is unpickled on either side: what comes out of a decoder that met a hostile file is plain
numbers.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import pkgutil
import resource
import signal
import socket
import sys
import wave
from multiprocessing import reduction
from multiprocessing.connection import Connection
from types import ModuleType
from typing import TYPE_CHECKING

from components.media.confinement import confine
from components.media.errors import Crashed, MediaError, OutOfMemory

if TYPE_CHECKING:
    from components.media.audio import AudioSegments
    from components.media.containers import ReadableFile
    from components.media.extract import MediaArrays
    from components.media.video import KeyFrames

PARENT_CHECK_S = 5.0
_DOT_GIF = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")  # one pixel


class Descriptor:
    """An open file, read by nothing but `read` and `lseek`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; all that are left where it is negative."""
        if size >= 0:
            return os.read(self._descriptor, size)
        return b"".join(iter(lambda: os.read(self._descriptor, 1 << 20), b""))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As io.RawIOBase.seek."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """As io.RawIOBase.tell."""
        return self.seek(0, os.SEEK_CUR)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def main(descriptor: int, time_limit_s: float, memory_limit_bytes: int) -> None:
    """Serve until the other side closes or its process is gone."""
    parent = os.getppid()
    connection = Connection(descriptor)
    try:
        import av

        from components.media import extract
    except (ImportError, OSError) as error:
        connection.send_bytes(json.dumps({"unavailable": str(error)}).encode())
        return
    libav = logging.getLogger("libav")
    libav.addHandler(logging.NullHandler())
    libav.propagate = False
    av.logging.set_level(av.logging.ERROR)  # so that an error carries FFmpeg's own words
    _warm_up(av, extract)
    limit = _mapped_bytes() + memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    handed = socket.socket(fileno=os.dup(descriptor))
    _silence()
    confinement = confine()
    connection.send_bytes(json.dumps({"ready": av.ffmpeg_version_info, "confinement": confinement}).encode())
    while _wait(connection, parent):
        request = connection.recv_bytes()
        # The kernel ends this process when time is up, also when the parent is gone or the decoder never returns.
        signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        file = _requested(request, handed)
        try:
            if request[:1] == b"S":
                header, arrays = _segments(extract.segments(file))
            elif request[:1] == b"P":
                header, arrays = _pictures(extract.pictures(file))
            else:
                header, arrays = _features(extract.extract(file))
        except MemoryError as error:
            _refuse(connection, OutOfMemory(f"more than {memory_limit_bytes >> 20} MiB: {error}"))
        except MediaError as error:
            _refuse(connection, error)
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises concerns this medium: it is told
            _refuse(connection, Crashed(f"{type(error).__name__}: {error}"))
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send_bytes(json.dumps(header).encode())
            for array in arrays:
                connection.send_bytes(array.tobytes())
        finally:
            if isinstance(file, Descriptor):
                file.close()


def _requested(request: bytes, handed: socket.socket) -> bytes | ReadableFile:
    if request[1:2] == b"B":
        return request[2:]
    (descriptor,) = reduction.recvfds(handed, 1)
    return Descriptor(descriptor)


def _features(found: MediaArrays) -> tuple[dict, list]:
    header = {
        "audio": found.has_audio,
        "video_num_frames": found.video_num_frames,
        "duration_s": found.duration_s,
        "notes": found.notes,
    }
    arrays = (found.audio_log_mel, found.audio_num_frames, found.video_frames, found.video_times_s)
    return header, [array for array in arrays if array is not None]


def _segments(found: AudioSegments) -> tuple[dict, list]:
    header = {"duration_s": found.duration_s, "notes": found.notes}
    return header, [found.waveforms, found.num_samples, found.starts_s]


def _pictures(found: KeyFrames) -> tuple[dict, list]:
    return {"duration_s": found.duration_s, "shape": found.pictures.shape}, [found.pictures, found.times_s]


def _refuse(connection: Connection, error: MediaError) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    connection.send_bytes(json.dumps({"reason": error.reason, "detail": error.detail}).encode())


def _wait(connection: Connection, parent: int) -> bool:
    try:
        while not connection.poll(PARENT_CHECK_S):
            if os.getppid() != parent:
                return False
    except (EOFError, OSError):
        return False
    return True


def _warm_up(av: ModuleType, extract: ModuleType) -> None:
    """Have everything loaded that is loaded at its first use: afterwards nothing can be."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # PyAV imports a kind of stream when it meets the first of it
    for file in (_silent_wav(), _DOT_GIF, b"RIFF and nothing that any decoder knows"):
        with contextlib.suppress(MediaError):
            extract.extract(file)
    extract.sndfile_segments(_silent_wav())


def _silent_wav() -> bytes:
    """A tenth of a second of silence as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44_100)
        out.writeframes(bytes(4 * 4410))
    return file.getvalue()


def _silence() -> None:
    """From here on nothing is written to the terminal of the run."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _mapped_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        return int(statm.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the parent has gone
