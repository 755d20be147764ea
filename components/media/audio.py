"""Audio of any format as mono 16 kHz, and the few segments of a track that stand for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.filter import Graph

from components.contract import AUDIO_FRAMES, AUDIO_SEGMENTS
from components.media.containers import Media, Source, frames, open_media, origin_s, seek, walk_duration_s
from components.media.errors import DecodeFailed, NoStream, TooShort
from components.media.spectrogram import HOP_SAMPLES, SAMPLE_RATE_HZ, SEGMENT_SAMPLES, WINDOW_SAMPLES

WHOLE_S = 20.0  # a track up to this length is decoded whole: its samples and its length are exact
PREROLL_S = 0.25  # decoded and dropped after a jump: codecs need a moment to find their state
UNHEARD_PEAK = 1e-4  # a downmix below this is silence, or two channels of opposite sign
BATCH_FRAMES = (
    16  # decoded frames mixed at a time: most have a thousand samples, and each call costs as much as mixing them
)
SPAN_SAMPLES = AUDIO_FRAMES * HOP_SAMPLES  # from the start of one segment to the next where they follow each other


@dataclass(frozen=True)
class AudioSegments:
    """What was taken of a track."""

    waveforms: np.ndarray  # float32 [AUDIO_SEGMENTS, SEGMENT_SAMPLES] in [-1, 1], zeros after the valid samples
    num_samples: np.ndarray  # int64 [AUDIO_SEGMENTS], valid samples of each
    starts_s: np.ndarray  # float32 [AUDIO_SEGMENTS], seconds from the start of the track
    duration_s: float  # measured where the track was decoded whole or states no length, else as stated


def decode_audio(source: Source) -> np.ndarray:
    """All of a medium's audio: float32 [num_samples] in [-1, 1], mono, at SAMPLE_RATE_HZ.

    Raises MediaError as `sample_segments` does, but for TooShort. Memory grows with the length: for tests and short clips.
    """
    with open_media(source) as media:
        return _read(media, _audio_stream(media), 0.0, None)[0]


def sample_segments(source: Source) -> AudioSegments:
    """AUDIO_SEGMENTS segments of SEGMENT_SAMPLES, spread evenly over the track.

    A track up to WHOLE_S is decoded whole; a longer one is sought, so that the cost depends on the segments and not on the length. A
    track too short for all segments is cut into consecutive ones, the last of which is partly or wholly padding (`num_samples`).
    Raises MediaError: what `open_media` raises; NoStream without audio; DecodeFailed; TooShort under WINDOW_SAMPLES.
    """
    with open_media(source) as media:
        return segments_of(media)


def segments_of(media: Media) -> AudioSegments:
    """`sample_segments` of a medium that is open and has not been read from."""
    stream = _audio_stream(media)
    stated_s = media.stated_duration_s(stream)
    if stated_s is None or stated_s <= WHOLE_S:
        waveform, ended = _read(media, stream, 0.0, int((WHOLE_S + 1.0) * SAMPLE_RATE_HZ))
        if ended:
            return _cut(waveform)
        stated_s = walk_duration_s(media, stream)  # longer than it says, or it says nothing
    taken = _jump(media, stream, stated_s)
    if taken.num_samples.min() < SEGMENT_SAMPLES:  # shorter than it says: a file cut off, or a wrong header
        seek(media, stream, 0.0)
        taken = _jump(media, stream, walk_duration_s(media, stream))
    if not taken.num_samples.any():
        raise DecodeFailed("no audio where the container says it is")
    return taken


def segment_starts_s(duration_s: float) -> np.ndarray:
    """Where the segments of a long track begin: each in the middle of its equal part. float64 [AUDIO_SEGMENTS], seconds."""
    middles = (np.arange(AUDIO_SEGMENTS) + 0.5) * duration_s / AUDIO_SEGMENTS
    return np.maximum(middles - SEGMENT_SAMPLES / SAMPLE_RATE_HZ / 2, 0.0)


def _audio_stream(media: Media) -> Any:
    stream = media.stream("audio")
    if stream is None:
        raise NoStream("no audio stream that can be decoded")
    return stream


def _cut(waveform: np.ndarray) -> AudioSegments:
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    if len(waveform) < WINDOW_SAMPLES:
        raise TooShort(
            f"{1000 * duration_s:.1f} ms of audio, at least {1000 * WINDOW_SAMPLES / SAMPLE_RATE_HZ:.0f} ms are needed"
        )
    starts = np.arange(AUDIO_SEGMENTS) * SPAN_SAMPLES
    if len(waveform) > starts[-1] + SEGMENT_SAMPLES:
        starts = np.rint(segment_starts_s(duration_s) * SAMPLE_RATE_HZ).astype(np.int64)
    return _stack([waveform[start : start + SEGMENT_SAMPLES] for start in starts], starts / SAMPLE_RATE_HZ, duration_s)


def _jump(media: Media, stream: Any, duration_s: float) -> AudioSegments:
    starts_s = segment_starts_s(duration_s)
    pieces = []
    for start_s in starts_s:
        seek(media, stream, start_s - PREROLL_S)
        pieces.append(_read(media, stream, start_s, SEGMENT_SAMPLES)[0])
    return _stack(pieces, starts_s, duration_s)


def _stack(pieces: list[np.ndarray], starts_s: np.ndarray, duration_s: float) -> AudioSegments:
    waveforms = np.zeros((AUDIO_SEGMENTS, SEGMENT_SAMPLES), np.float32)
    for row, piece in zip(waveforms, pieces):
        row[: len(piece)] = piece
    num_samples = np.array([len(piece) for piece in pieces], np.int64)
    return AudioSegments(waveforms, num_samples, starts_s.astype(np.float32), duration_s)


def _read(media: Media, stream: Any, start_s: float, max_samples: int | None) -> tuple[np.ndarray, bool]:
    """Mono samples from `start_s` on, at most `max_samples`, and whether the track ended within them."""
    waveform, ended = _mixed(media, stream, start_s, max_samples, "mono")
    if waveform.size and stream.codec_context.channels > 1 and np.abs(waveform).max() < UNHEARD_PEAK:
        seek(media, stream, start_s - PREROLL_S)
        left, left_ended = _mixed(media, stream, start_s, max_samples, "FL")
        if (
            left.size and np.abs(left).max() >= UNHEARD_PEAK
        ):  # channels of opposite sign: a listener hears them, their sum is nothing
            waveform, ended = left, left_ended
    # A float file may hold anything; a player clips at full scale, so do we.
    return np.clip(np.nan_to_num(waveform, nan=0.0), -1.0, 1.0), ended


def _mixed(media: Media, stream: Any, start_s: float, max_samples: int | None, channel: str) -> tuple[np.ndarray, bool]:
    parts: list[np.ndarray] = []
    missing = np.inf if max_samples is None else max_samples
    begin_s = origin_s(stream) + start_s
    drop: int | None = None  # samples before start_s
    for time_s, part in _resampled(_from(frames(media, stream), begin_s), channel):
        if drop is None:
            drop = max(0, round((begin_s - time_s) * SAMPLE_RATE_HZ)) if start_s > 0 else 0
        part, drop = part[drop:], max(0, drop - len(part))
        parts.append(part)
        missing -= len(part)
        if missing <= 0:
            break
    waveform = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return waveform[:max_samples], missing > 0


def _from(decoded: Iterator[av.AudioFrame], begin_s: float) -> Iterator[av.AudioFrame]:
    """Leave out the frames that end well before the place, but for a margin that the resampler needs."""
    for frame in decoded:
        if frame.samples and (frame.time is None or frame.time + frame.samples / frame.sample_rate > begin_s - 0.02):
            yield frame


def _resampled(decoded: Iterator[av.AudioFrame], channel: str) -> Iterator[tuple[float, np.ndarray]]:
    """(presentation time in seconds of the first sample since the last change of shape, mono samples at SAMPLE_RATE_HZ)."""
    # A shape may change in mid-stream: spliced files, chained Ogg.
    for shape, run in itertools.groupby(
        decoded, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)
    ):
        graph, time_s = _mixer(*shape, channel), None
        if graph is None:
            continue
        while batch := list(itertools.islice(run, BATCH_FRAMES)):
            time_s = (batch[0].time or 0.0) if time_s is None else time_s
            for frame in batch:
                frame.pts = None  # the samples follow each other; gaps in damaged time stamps must not become silence
                graph.push(frame)
            yield from ((time_s, part) for part in _pull(graph))
        graph.push(None)
        yield from ((time_s or 0.0, part) for part in _pull(graph))


def _mixer(sample_format: str, layout: str, sample_rate_hz: int, channel: str) -> Graph | None:
    """Mono at SAMPLE_RATE_HZ from frames of that shape; None where no sound has that shape: a damaged packet."""
    graph = Graph()
    source = (
        f"sample_rate={sample_rate_hz}:sample_fmt={sample_format}:channel_layout={layout}:time_base=1/{sample_rate_hz}"
    )
    nodes = [graph.add("abuffer", source), graph.add("asetnsamples", f"{BATCH_FRAMES * 1024}:p=0")]
    if channel != "mono":
        nodes.append(graph.add("pan", "mono|c0=c0"))
    # rematrix_maxval: an equal signal on all channels keeps its level.
    nodes.append(graph.add("aresample", f"{SAMPLE_RATE_HZ}:ochl=mono:osf=flt:rematrix_maxval=1"))
    nodes.append(graph.add("abuffersink"))
    for node, following in zip(nodes, nodes[1:]):
        node.link_to(following)
    try:
        graph.configure()
    except MemoryError:
        raise
    except av.error.FFmpegError:
        return None
    return graph


def _pull(graph: Graph) -> Iterator[np.ndarray]:
    while True:
        try:
            yield graph.pull().to_ndarray()[0]
        except (av.error.BlockingIOError, av.error.EOFError):
            return
