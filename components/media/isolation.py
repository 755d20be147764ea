"""Decodes in a confined child process under a time and a memory limit: a hang, a blow-up or a crash costs one medium,
not the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar, Union

import numpy as np

from components.contract import AUDIO_FEATURES, VIDEO_FEATURES
from components.interpreter import ROOT, module_command
from components.media.audio import AudioSegments
from components.media.confinement import Confinement
from components.media.containers import open_path
from components.media.errors import Crashed, DecoderUnavailable, OutOfMemory, TimedOut, media_error
from components.media.extract import MediaArrays
from components.media.lengths import Note
from components.media.video import KeyFrames

# The file's bytes, the descriptor of a file that is open for reading, or a local path, which is opened on this side.
Medium = Union[bytes, int, str, "os.PathLike[str]"]

T = TypeVar("T")
START_LIMIT_S = 60.0  # a loaded machine takes its time to start Python
GRACE_S = 5.0  # the child ends itself at its limit; after this much more it is ended from here
ITEMS_PER_WORKER = 1000  # then a fresh process: what a decoder leaks does not add up


@dataclass(frozen=True)
class Limits:
    """What one medium may cost."""

    time_s: float = 60.0  # wall clock
    memory_bytes: int = 1 << 30  # address space beyond the idle process


class Decoder:
    """`extract` at arm's length. One child process, started at the first call, replaced after a crash or a time-out.

    The child gets the medium as bytes or as an open descriptor; it can open no file itself (`confinement`).
    Not for several threads at once: give each its own. Close it, or use it as a context manager; a child whose parent
    is gone ends itself.
    """

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        self._confinement = Confinement((), ())
        self._finalizer: Any = None
        self._served = 0

    def extract(self, medium: Medium) -> MediaArrays:
        """As `components.media.extract.extract`.

        Raises MediaError, TimedOut, OutOfMemory and Crashed among them; DecoderUnavailable where the child cannot run
        at all.
        """
        return self._ask(b"F", medium, self._media_arrays)

    def segments(self, medium: Medium) -> AudioSegments:
        """As `components.media.extract.segments`; raises what `extract` does."""
        return self._ask(b"S", medium, self._audio_segments)

    def pictures(self, medium: Medium) -> KeyFrames:
        """As `components.media.extract.pictures`; raises what `extract` does."""
        return self._ask(b"P", medium, self._key_frames)

    def confinement(self) -> Confinement:
        """What the child has given up on this machine. Raises DecoderUnavailable."""
        if self._process is None:
            self._start()
        return self._confinement

    def _ask(self, task: bytes, medium: Medium, answer: Callable[[dict], T]) -> T:
        if isinstance(medium, (str, os.PathLike)):
            with open_path(os.fspath(medium)) as file:
                return self._ask(task, file.fileno(), answer)
        if self._process is None or self._served >= ITEMS_PER_WORKER or self._process.poll() is not None:
            self.close()
            self._start()
        self._served += 1
        try:
            return answer(self._header(task, medium))
        except (TimedOut, OutOfMemory):  # what is left of the process is stuck, or full
            self.close()
            raise
        except (EOFError, OSError) as error:
            code = self._end()
            if code == -signal.SIGALRM:
                raise TimedOut(f"more than {self._limits.time_s:g} s") from error
            raise Crashed(f"the decoder ended with {_exit_name(code)}") from error

    def _header(self, task: bytes, medium: bytes | int) -> dict:
        """Send a request and wait for the first message of the answer. Raises the MediaError that it says."""
        assert self._connection is not None
        assert self._process is not None
        if isinstance(medium, bytes):
            self._connection.send_bytes(task + b"B" + medium)
        else:
            self._connection.send_bytes(task + b"D")
            reduction.send_handle(self._connection, medium, self._process.pid)
        if not self._connection.poll(self._limits.time_s + GRACE_S):
            raise TimedOut(f"more than {self._limits.time_s:g} s")
        header = json.loads(self._connection.recv_bytes())
        if "reason" in header:
            raise media_error(header["reason"], header["detail"])
        return header

    def close(self) -> None:
        """End the child. The next `extract` starts another."""
        self._end()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _audio_segments(self, header: dict) -> AudioSegments:
        assert self._connection is not None
        waveforms, num_samples, starts_s = (
            np.frombuffer(self._connection.recv_bytes(), dtype) for dtype in (np.float32, np.int64, np.float32)
        )
        notes = tuple(Note(*note) for note in header["notes"])
        return AudioSegments(
            waveforms.reshape(len(num_samples), -1), num_samples, starts_s, header["duration_s"], notes=notes
        )

    def _key_frames(self, header: dict) -> KeyFrames:
        assert self._connection is not None
        pictures, times_s = (np.frombuffer(self._connection.recv_bytes(), dtype) for dtype in (np.uint8, np.float32))
        return KeyFrames(pictures.reshape(header["shape"]), times_s, header["duration_s"])

    def _media_arrays(self, header: dict) -> MediaArrays:
        assert self._connection is not None
        arrays: dict = {feature.name: None for feature in (*AUDIO_FEATURES, *VIDEO_FEATURES)}
        present = (AUDIO_FEATURES if header["audio"] else ()) + (VIDEO_FEATURES if header["video_num_frames"] else ())
        for feature in present:
            if feature.shape:
                received = np.frombuffer(self._connection.recv_bytes(), feature.dtype)
                arrays[feature.name] = received.reshape(feature.shape)
        arrays["video_num_frames"] = header["video_num_frames"]
        return MediaArrays(
            **arrays, duration_s=header["duration_s"], notes=tuple(Note(*note) for note in header["notes"])
        )

    def _start(self) -> None:
        ours, theirs = Pipe()
        arguments = [str(theirs.fileno()), str(self._limits.time_s), str(self._limits.memory_bytes)]
        # A fresh interpreter: a fork would inherit TensorFlow's threads and locks.
        self._process = subprocess.Popen(
            worker_command(*arguments),
            pass_fds=[theirs.fileno()],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection, self._served = ours, 0
        self._finalizer = weakref.finalize(self, _end, self._process, ours)
        try:
            greeting = (
                json.loads(ours.recv_bytes()) if ours.poll(START_LIMIT_S) else {"unavailable": "it does not start"}
            )
        except (EOFError, OSError):
            greeting = {"unavailable": f"it ended with {_exit_name(self._end())}"}
        if "unavailable" in greeting:
            self.close()
            raise DecoderUnavailable(f"the decoder (PyAV, package `av`) cannot run here: {greeting['unavailable']}")
        self._confinement = Confinement(*map(tuple, greeting["confinement"]))

    def _end(self) -> int | None:
        if self._finalizer is not None:
            self._finalizer.detach()
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        return _end(process, connection) if process is not None and connection is not None else None


def worker_command(*arguments: str) -> list[str]:
    """The command of the child: the module `worker`."""
    return module_command("components.media.worker", *arguments)


def _environment() -> dict[str, str]:
    """Nothing of the run's environment but where modules and libraries lie. One thread for BLAS: the item is one
    core's work."""
    paths = [str(ROOT), *(path for path in sys.path if os.path.isabs(path))]  # noqa: PTH117
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **threads, **libraries}


def _end(process: subprocess.Popen, connection: Connection) -> int:
    """Close the pipe; a child that is busy does not notice, so it is killed. Returns the exit code: negative for a
    signal."""
    connection.close()
    try:
        return process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _exit_name(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
