"""What tells one state of a file from another, without reading it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


def size_and_mtime(path: str) -> tuple[int, int]:
    """Bytes of a file and the time of its last change, in ns, local or on a file system that TensorFlow knows.

    TensorFlow gives whole seconds of a local file, by which two models written within one were the same.
    Raises OSError, or tf.errors.OpError of a remote file.
    """
    if "://" not in path:
        status = Path(path).stat()
        return status.st_size, status.st_mtime_ns
    remote = tf.io.gfile.stat(path)
    return remote.length, remote.mtime_nsec
