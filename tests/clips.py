"""Tiny media files, encoded while the tests run."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest


class Clips:
    """Encoders with the few options that the tests turn. Everything comes back as the bytes of a file."""

    @staticmethod
    def tone(duration_s=2.0, hz=440.0, rate=44_100, level=0.5):
        """float32 [samples]: a sine."""
        return (level * np.sin(2 * np.pi * hz * np.arange(round(duration_s * rate)) / rate)).astype(np.float32)

    @staticmethod
    def audio(
        samples, rate=44_100, container="wav", codec="pcm_s16le", layout="mono", options=None, stream_options=None
    ):
        """samples: float32 [N], the same on every channel, or [channels, N]."""
        file = io.BytesIO()
        with av.open(file, "w", format=container, options=options or {}) as out:
            stream = out.add_stream(codec, rate=rate, options=stream_options or {})
            stream.layout = layout
            if codec == "wmav2":
                stream.bit_rate = 64_000  # has no default
            _encode_audio(out, stream, samples, rate)
        return file.getvalue()

    @staticmethod
    def video(
        pictures,
        times_s=None,
        fps=25,
        container="mp4",
        codec="libx264",
        sound=None,
        options=None,
        stream_options=None,
        pipe=False,
    ):
        """pictures: uint8 [N, H, W, 3]; times_s: presentation times, else fps; sound: float32 samples at 44,100 Hz;
        pipe: cannot seek."""
        file = _Pipe() if pipe else io.BytesIO()
        times_s = np.arange(len(pictures)) / fps if times_s is None else times_s
        with av.open(file, "w", format=container, options=options or {}) as out:
            stream = out.add_stream(codec, rate=fps, options=stream_options or {})
            stream.height, stream.width = pictures.shape[1:3]
            stream.bit_rate = 1_000_000
            stream.pix_fmt = {"gif": "rgb8", "png": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
            if codec == "gif":
                stream.codec_context.time_base = stream.time_base = Fraction(1, 100)
            audio = None
            if sound is not None:
                audio = out.add_stream(
                    "libopus" if container == "webm" else "aac", rate=48_000 if container == "webm" else 44_100
                )
                audio.layout = "mono"
            for time_s, picture in zip(times_s, pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
                frame.time_base = stream.codec_context.time_base
                frame.pts = round(time_s / frame.time_base)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
            if audio is not None:
                _encode_audio(out, audio, sound, 44_100)
        return file.getvalue()

    @staticmethod
    def flat(colours, frames_each=25, height=64, width=64):
        """uint8 [N, H, W, 3]: one colour after the other."""
        return np.repeat(np.array(colours, np.uint8)[:, None, None, :], frames_each, axis=0) * np.ones(
            (1, height, width, 1), np.uint8
        )

    @staticmethod
    def moving(num_frames, height=64, width=64):
        """uint8 [N, H, W, 3]: a bright bar that goes slowly from left to right over a grey ramp; no two pictures are
        alike."""
        pictures = np.broadcast_to(
            np.linspace(40, 120, height, dtype=np.uint8)[:, None, None], (num_frames, height, width, 3)
        ).copy()
        for number, picture in enumerate(pictures):
            left = number * (width - 8) // max(num_frames - 1, 1)
            picture[:, left : left + 8] = (250, 200, 30)
        return pictures


class _Pipe(io.BytesIO):
    def seekable(self):
        return False


def _encode_audio(out, stream, samples, rate):
    samples = np.atleast_2d(np.asarray(samples, np.float32))
    channels = stream.layout.nb_channels
    if len(samples) != channels:
        samples = np.repeat(samples, channels, axis=0)
    resampler = av.AudioResampler(format=stream.format.name, layout=stream.layout.name, rate=stream.sample_rate)
    for start in range(0, samples.shape[1], 4096):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[:, start : start + 4096]), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for converted in resampler.resample(frame):
            out.mux(stream.encode(converted))
    for converted in resampler.resample(None):
        out.mux(stream.encode(converted))
    out.mux(stream.encode(None))


@pytest.fixture(scope="session")
def clips():
    """The encoders."""
    return Clips
