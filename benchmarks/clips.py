"""Media made for the benchmarks: music-like audio and moving pictures, encoded in any format."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import cast

import av
import numpy as np

RATE_HZ = 44_100


def music(duration_s: float, seed: int) -> np.ndarray:
    """float32 [2, samples] at RATE_HZ: chords with a beat, and noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    notes_hz = 110 * 2 ** (rng.integers(0, 36, 6) / 12)
    beat = np.exp(-6 * ((time_s * rng.uniform(1, 3)) % 1.0))
    sound = sum(np.sin(2 * np.pi * hz * time_s + rng.uniform(0, 6)) for hz in notes_hz) * 0.08 * (0.3 + beat)
    return np.stack([sound + rng.normal(0, 0.02, len(time_s)) for _ in range(2)]).astype(np.float32)


def pictures(num_frames: int, height: int, width: int, seed: int):
    """Pictures uint8 [H, W, 3], one after the other: a scene every 5 s at 25 a second, in which something moves."""
    rng = np.random.default_rng(seed)
    for number in range(num_frames):
        if number % 125 == 0:
            low = rng.integers(0, 255, (9, 16, 3)).astype(np.uint8)
            scene = (
                av.VideoFrame.from_ndarray(low, format="rgb24")
                .reformat(width=width, height=height, interpolation="BICUBIC")
                .to_ndarray()
            )
        picture = np.roll(scene, 2 * (number % 125), axis=1)
        left = 4 * number % (width - 40)
        picture[height // 3 : height // 3 + 40, left : left + 40] = 255
        yield picture


def encode(
    container: str, audio: tuple[str, np.ndarray] | None = None, video: tuple | None = None, fps: int = 25
) -> bytes:
    """A file. audio: (codec, float32 [channels, samples] at RATE_HZ); video: (codec, iterable of pictures, height,
    width)."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        sound = picture_stream = None
        if video is not None:
            codec, frames, height, width = video
            picture_stream = out.add_stream(
                codec, rate=fps, options={"preset": "ultrafast"} if codec == "libx264" else {}
            )
            picture_stream.height, picture_stream.width = height, width
            picture_stream.pix_fmt = {"gif": "rgb8", "png": "rgb24"}.get(codec, "yuv420p")
            picture_stream.bit_rate = 1_000_000
        if audio is not None:
            codec, samples = audio
            sound = cast(av.AudioStream, out.add_stream(codec, rate=48_000 if "opus" in codec else RATE_HZ))
            sound.layout = "mono" if len(samples) == 1 else "stereo"
            sound.bit_rate = 128_000
        if picture_stream is not None:
            for picture in frames:
                out.mux(
                    picture_stream.encode(
                        av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=picture_stream.pix_fmt)
                    )
                )
            out.mux(picture_stream.encode(None))
        if sound is not None:
            _encode_sound(out, sound, samples)
    return file.getvalue()


def _encode_sound(out, stream, samples: np.ndarray) -> None:
    resampler = av.AudioResampler(format=stream.format.name, layout=stream.layout.name, rate=stream.sample_rate)
    for start in range(0, samples.shape[1], 4096):
        part = np.ascontiguousarray(samples[:, start : start + 4096])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
        for converted in resampler.resample(frame):
            out.mux(stream.encode(converted))
    for converted in resampler.resample(None):
        out.mux(stream.encode(converted))
    out.mux(stream.encode(None))
