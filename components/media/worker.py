"""The decoder's own process: reads requests, answers with arrays or a reason. Started by `isolation.Decoder`, never imported by it.

A request is one message: b"P" and a path, or b"B" and the bytes of the file, for the stored features; b"S" and a path for segments of the
sound. An answer is a JSON message, then one message an array.
Nothing here is unpickled on either side: what comes out of a decoder that met a hostile file is plain numbers.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.media.audio import AudioSegments
    from components.media.extract import MediaArrays

PARENT_CHECK_S = 5.0


def main(descriptor: int, time_limit_s: float, memory_limit_bytes: int) -> None:
    """Serve until the other side closes or its process is gone."""
    parent = os.getppid()
    connection = Connection(descriptor)
    try:
        import av

        from components.media.audio import sample_segments
        from components.media.errors import MediaError, OutOfMemory
        from components.media.extract import extract
    except (ImportError, OSError) as error:
        connection.send_bytes(json.dumps({"unavailable": str(error)}).encode())
        return
    libav = logging.getLogger("libav")
    libav.addHandler(logging.NullHandler())
    libav.propagate = False
    av.logging.set_level(av.logging.ERROR)  # so that an error carries FFmpeg's own words
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _mapped_bytes() + memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send_bytes(json.dumps({"ready": av.ffmpeg_version_info}).encode())
    while _wait(connection, parent):
        request = connection.recv_bytes()
        source = request[1:] if request[:1] == b"B" else os.fsdecode(request[1:])
        # The kernel ends this process when time is up, also when the parent is gone or the decoder never returns.
        signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        try:
            header, arrays = _segments(sample_segments(source)) if request[:1] == b"S" else _features(extract(source))
        except MemoryError as error:
            _refuse(connection, OutOfMemory(f"more than {memory_limit_bytes >> 20} MiB: {error}"))
        except MediaError as error:
            _refuse(connection, error)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send_bytes(json.dumps(header).encode())
            for array in arrays:
                connection.send_bytes(array.tobytes())


def _features(found: MediaArrays) -> tuple[dict, list]:
    header = {
        "audio": found.has_audio,
        "video_num_frames": found.video_num_frames,
        "duration_s": found.duration_s,
        "damage": found.damage,
    }
    arrays = (found.audio_log_mel, found.audio_num_frames, found.video_frames, found.video_times_s)
    return header, [array for array in arrays if array is not None]


def _segments(found: AudioSegments) -> tuple[dict, list]:
    return {"duration_s": found.duration_s}, [found.waveforms, found.num_samples, found.starts_s]


def _refuse(connection: Connection, error) -> None:
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


def _mapped_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        return int(statm.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the parent has gone
