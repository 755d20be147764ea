"""Encoding of the demo world's sounds and pictures to real files, with PyAV's bundled FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.sources.demo.audio import synthesize
from pipeline.sources.demo.video import FRAMES_PER_S, HEIGHT, WIDTH, render
from pipeline.sources.demo.world import AUDIBLE, DemoConfig, Items, generator

# File extension: container, audio codec, its sample format.
AUDIO_CODECS = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "flac": ("flac", "flac", "s16"),
    "ogg": ("ogg", "libvorbis", "fltp"),
    "m4a": ("mp4", "aac", "fltp"),
    "mp4": ("mp4", "aac", "fltp"),
    "webm": ("webm", "libvorbis", "fltp"),
}
# Fast settings: a made-up world needs no small files.
AUDIO_OPTIONS = {"libmp3lame": {"compression_level": "9"}, "aac": {"aac_coder": "fast"}}
# File extension: video codec and its options; one thread and no CPU-dependent code make them repeatable.
VIDEO_CODECS = {
    "mp4": ("libx264", {"preset": "veryfast", "crf": "24", "threads": "1", "x264-params": "cpu-independent=1"}),
    "webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "12", "b": "600k", "threads": "1"}),
}
AUDIO_BITS_PER_S = 64_000
SAMPLE_RATES_HZ = (22_050, 32_000, 44_100)
CHUNK_SAMPLES = 1024
LAYOUTS = {1: "mono", 2: "stereo"}

HTML_PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


def write_item(config: DemoConfig, items: Items, row: int, path: Path) -> None:
    """Synthesize and encode the media file of one item that has media."""
    rng = generator(config, "media", row)
    traits, kind, duration_s = items.traits[row], items.media[row], float(items.duration_s[row])
    sample_rate_hz = int(rng.choice(SAMPLE_RATES_HZ, p=(0.5, 0.3, 0.2)))
    stereo = rng.random() < 0.4
    waveform = frames = None
    if kind in ("audio", "both"):
        mono = synthesize(traits[: len(AUDIBLE)], duration_s, sample_rate_hz, rng)
        waveform = np.stack([mono, 0.8 * mono]) if stereo else mono[None]
    if kind in ("video", "both"):
        frames = render(traits[len(AUDIBLE) :], duration_s, rng)
    encode(path, waveform, sample_rate_hz, frames)


def encode(path: Path, waveform: np.ndarray | None, sample_rate_hz: int, frames: np.ndarray | None) -> None:
    """Write a media file; its extension, one of AUDIO_CODECS, names the format.

    waveform: float32 [channels, num_samples] in -1..1, one or two channels, or None.
    frames: uint8 [num_frames, HEIGHT, WIDTH, 3], RGB, FRAMES_PER_S a second, or None.
    """
    container_name, _, sample_format = AUDIO_CODECS[path.suffix[1:]]
    # Bit-exact: no random serial numbers, no version strings; the same world is the same bytes.
    with av.open(str(path), "w", format=container_name, container_options={"fflags": "+bitexact"}) as container:
        video = None if frames is None else _add_video(container, path.suffix[1:])
        audio = None if waveform is None else _add_audio(container, path.suffix[1:], sample_rate_hz, len(waveform))
        if video is not None and frames is not None:
            for picture in _video_frames(frames):
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        if audio is not None and waveform is not None:
            for sound in _audio_frames(waveform, sample_rate_hz, sample_format):
                container.mux(audio.encode(sound))
            container.mux(audio.encode(None))


def write_broken(path: Path, kind: int) -> None:
    """A file as real catalogues have them: an empty one (kind 0), or an error page under a media name (kind 1)."""
    path.write_bytes((b"", HTML_PAGE)[kind])


def _add_video(container: av.container.OutputContainer, extension: str) -> av.VideoStream:
    codec, options = VIDEO_CODECS[extension]
    stream = container.add_stream(codec, rate=FRAMES_PER_S, options={**options, "flags": "+bitexact"})
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    return stream


def _add_audio(
    container: av.container.OutputContainer, extension: str, sample_rate_hz: int, channels: int
) -> av.AudioStream:
    _, codec, sample_format = AUDIO_CODECS[extension]
    options = {**AUDIO_OPTIONS.get(codec, {}), "flags": "+bitexact"}
    stream = container.add_stream(codec, rate=sample_rate_hz, layout=LAYOUTS[channels], options=options)
    assert isinstance(stream, av.AudioStream)
    stream.format = av.AudioFormat(sample_format)
    if codec not in ("pcm_s16le", "flac"):
        stream.bit_rate = AUDIO_BITS_PER_S
    return stream


def _audio_frames(waveform: np.ndarray, sample_rate_hz: int, sample_format: str) -> Iterator[av.AudioFrame]:
    for start in range(0, waveform.shape[1], CHUNK_SAMPLES):
        chunk = np.ascontiguousarray(waveform[:, start : start + CHUNK_SAMPLES])
        if sample_format == "s16":
            chunk = np.rint(32_767 * chunk).astype(np.int16).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(chunk, format=sample_format, layout=LAYOUTS[len(waveform)])
        frame.sample_rate, frame.pts, frame.time_base = sample_rate_hz, start, Fraction(1, sample_rate_hz)
        yield frame


def _video_frames(frames: np.ndarray) -> Iterator[av.VideoFrame]:
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_S)
        yield frame
