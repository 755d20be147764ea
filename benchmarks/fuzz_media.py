"""Damaged media by the thousand: does any crash, hang or poison the decoder?

Mutated headers, truncated, spliced, joined and shuffled files of every format, decoded as the pipeline does: in
batches, each by a process of its own. Finished batches are kept as long as the code stays the same, so that a run goes
on where the one before it ended.
"""

from __future__ import annotations

import collections
import json
import sys

import numpy as np

from benchmarks.clips import encode, music, pictures
from benchmarks.fuzz_batches import Batches
from components.media.errors import Crashed, MediaError, TimedOut
from components.media.extract import MediaArrays
from components.media.isolation import Decoder, Limits

INPUTS = 10_000
BATCH_INPUTS = 500
FAULTS = ("crashes", "hangs", "not_finite")
BATCHES = Batches("media", "components.media.worker", INPUTS // BATCH_INPUTS, batch_limit_s=900.0, seconds=1500.0)
LIMITS = Limits(time_s=10.0, memory_bytes=1 << 30)
AUDIO = (
    *(("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "libvorbis")),
    *(("ogg", "libopus"), ("ipod", "aac"), ("ipod", "alac"), ("adts", "aac"), ("aiff", "pcm_s16be"), ("asf", "wmav2")),
    *(("caf", "pcm_s16le"), ("au", "pcm_s16be"), ("w64", "pcm_s16le"), ("wv", "wavpack"), ("ac3", "ac3")),
)
VIDEO = (
    *(("mp4", "libx264"), ("mov", "mpeg4"), ("webm", "libvpx-vp9"), ("matroska", "libx264"), ("avi", "mpeg4")),
    *(("gif", "gif"), ("mpegts", "libx264"), ("flv", "libx264"), ("h264", "libx264"), ("m4v", "mpeg4")),
)


def rows() -> list[dict]:
    """Rows of evaluation.md for the case `media`.

    `inputs` files were tried: `decodes` gave features, `rejects_<reason>` were refused, `not_finite` gave features with
    a number that nothing can be learnt from; `crashes` and `hangs` count decoders that died or had to be ended, and
    batches.
    """
    return BATCHES.rows("benchmarks.fuzz_media", FAULTS)


def decode_batch(seed: int) -> dict[str, int]:
    """Outcomes of BATCH_INPUTS mutated files."""
    files = seeds()
    rng = np.random.default_rng(seed)
    outcomes: collections.Counter[str] = collections.Counter(inputs=BATCH_INPUTS)
    with Decoder(LIMITS) as decoder:
        for _ in range(BATCH_INPUTS):
            outcomes[_outcome(decoder, mutate(files, rng))] += 1
    return dict(outcomes)


def seeds() -> list[bytes]:
    """One small file of each format."""
    sound = music(0.4, seed=0)
    files = [encode(container, audio=(codec, sound)) for container, codec in AUDIO]
    for container, codec in VIDEO:
        audio = (
            ("libopus" if container == "webm" else "aac", sound)
            if container in ("mp4", "webm", "matroska", "flv")
            else None
        )
        files.append(encode(container, audio=audio, video=(codec, pictures(8, 48, 64, seed=0), 48, 64)))
    return files


def mutate(files: list[bytes], rng: np.random.Generator) -> bytes:
    """A file with one to three kinds of damage."""
    data = files[rng.integers(len(files))]
    for _ in range(rng.integers(1, 4)):
        data = DAMAGES[rng.integers(len(DAMAGES))](bytearray(data), files, rng)
    return data


def _flip_header(data, _files, rng):
    for place in rng.integers(0, min(len(data), 256), rng.integers(1, 8)) if data else ():
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _overwrite(data, _files, rng):
    for place in rng.integers(0, len(data), rng.integers(1, 64)) if data else ():
        data[place] = int(rng.integers(256))
    return bytes(data)


def _extreme_numbers(data, _files, rng):
    for place in rng.integers(0, max(len(data) - 4, 1), rng.integers(1, 6)):
        data[place : place + 4] = (
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\x7f\xff\xff\xff",
            b"\xff\xff\xff\x7f",
            b"\0\0\0\1",
        )[rng.integers(5)]
    return bytes(data)


def _truncate(data, _files, rng):
    return bytes(data[: rng.integers(0, len(data) + 1)])


def _cut_out(data, _files, rng):
    start, end = sorted(rng.integers(0, len(data) + 1, 2))
    return bytes(data[:start] + data[end:])


def _repeat(data, _files, rng):
    start, end = sorted(rng.integers(0, len(data) + 1, 2))
    return bytes(data[:end] + data[start:])


def _splice(data, files, rng):
    other = files[rng.integers(len(files))]
    return bytes(data[: rng.integers(0, len(data) + 1)]) + other[rng.integers(0, len(other)) :]


def _blank(data, _files, rng):
    start, end = sorted(rng.integers(0, len(data) + 1, 2))
    data[start:end] = bytes([int(rng.choice([0, 255]))]) * (end - start)
    return bytes(data)


def _join(data, files, rng):
    return bytes(data) + files[rng.integers(len(files))]


DAMAGES = (
    _flip_header,
    _flip_header,
    _overwrite,
    _extreme_numbers,
    _truncate,
    _cut_out,
    _repeat,
    _splice,
    _blank,
    _join,
)


def _outcome(decoder: Decoder, data: bytes) -> str:
    try:
        arrays = decoder.extract(data)
    except Crashed:
        return "crashes"
    except TimedOut:
        return "hangs"
    except MediaError as error:
        return f"rejects_{error.reason}"
    return "decodes" if is_sound(arrays) else "not_finite"


def is_sound(arrays: MediaArrays) -> bool:
    """Whether every number can be learnt from: finite, in its range, and something is there."""
    times_ok = arrays.video_times_s is None or bool(
        np.isfinite(arrays.video_times_s).all() and (arrays.video_times_s >= 0).all()
    )
    frames_ok = arrays.audio_num_frames is None or bool(
        (arrays.audio_num_frames >= 0).all() and (arrays.audio_num_frames <= 300).all()
    )
    return (
        times_ok
        and frames_ok
        and bool(np.isfinite(arrays.duration_s) and arrays.duration_s >= 0)
        and (arrays.has_audio or arrays.has_video)
    )


if __name__ == "__main__":
    print(json.dumps(decode_batch(int(sys.argv[1]))))
