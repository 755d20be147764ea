"""Audio of any format as mono 16 kHz, and the few segments of a track that stand for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import av
import numpy as np
from av.filter import Graph

from components.contract import AUDIO_FRAMES, AUDIO_SEGMENTS
from components.media.channels import MEASURED_EVERY, heard_channel
from components.media.containers import Media, Source, frames, open_media, origin_s, packet_time_s, packets, seek
from components.media.errors import DecodeFailed, NoStream, TooShort
from components.media.lengths import (
    Note,
    StatedLength,
    ends_as_stated,
    stated_length,
    walked_length_s,
)
from components.media.spectrogram import HOP_SAMPLES, SAMPLE_RATE_HZ, SEGMENT_SAMPLES, WINDOW_SAMPLES

WHOLE_S = 20.0  # a track up to this length is decoded whole: its samples and its length are exact
PREROLL_S = 0.25  # decoded and dropped after a jump: codecs need a moment to find their state
MARGIN_S = 0.1  # decoded beyond the last sample that is wanted: what a resampler keeps back
BATCH_FRAMES = 16  # decoded frames mixed at a time: each call costs as much as mixing a frame of a thousand samples
SPAN_SAMPLES = AUDIO_FRAMES * HOP_SAMPLES  # from the start of one segment to the next where they follow each other
HIGHEST_RATE_HZ = 3_072_000  # of damaged headers that state more, the filter alone takes seconds
CHANNELS_CANCEL = "channels_cancel"


@dataclass(frozen=True)
class AudioSegments:
    """What was taken of a track."""

    waveforms: np.ndarray  # float32 [AUDIO_SEGMENTS, SEGMENT_SAMPLES] in [-1, 1], zeros after the valid samples
    num_samples: np.ndarray  # int64 [AUDIO_SEGMENTS], valid samples of each
    starts_s: np.ndarray  # float32 [AUDIO_SEGMENTS], seconds from the start of the track
    duration_s: float  # as stated where the track ends there, else measured
    stated: StatedLength | None = None  # what the header says of its length
    notes: tuple[Note, ...] = ()  # that channels cancel out; a length that is not as stated is told by the caller


class _Excerpt(NamedTuple):
    """A stretch of a track."""

    waveform: np.ndarray  # float32 [num_samples] in [-1, 1], mono, at SAMPLE_RATE_HZ
    is_last: bool  # whether the track ends in it
    notes: tuple[Note, ...]


Frames = Iterator[av.AudioFrame]


def decode_audio(source: Source) -> np.ndarray:
    """All of a medium's audio: float32 [num_samples] in [-1, 1], mono, at SAMPLE_RATE_HZ.

    Raises MediaError as `sample_segments` does, but for TooShort. Memory grows with the length: for tests and short
    clips.
    """
    with open_media(source) as media:
        return mono(_from_start(media)).waveform


def sample_segments(source: Source) -> AudioSegments:
    """AUDIO_SEGMENTS segments of SEGMENT_SAMPLES, spread evenly over the track.

    A track up to WHOLE_S is decoded whole; a longer one is sought, so that the cost depends on the segments and not on
    the length. Where it does not end as its header states, or cannot be sought, its packets are read from the
    beginning, and those of the segments decoded. A track too short for all segments is cut into consecutive ones, the
    last of which is partly or wholly padding (`num_samples`).
    Raises MediaError: what `open_media` raises; NoStream without audio; DecodeFailed; TooShort under WINDOW_SAMPLES.
    """
    with open_media(source) as media:
        return segments_of(media)


def segments_of(media: Media) -> AudioSegments:
    """`sample_segments` of a medium that is open and has not been read from."""
    stream = _audio_stream(media)
    stated = stated_length(media, stream)
    if stated is not None and stated.seconds > WHOLE_S:
        if ends_as_stated(media, stream, stated.seconds):
            starts_s = segment_starts_s(stated.seconds)
            excerpts = [_sought(media, stream, start_s) for start_s in starts_s]
            if all(len(excerpt.waveform) == SEGMENT_SAMPLES for excerpt in excerpts):
                return stack_segments(excerpts, starts_s, stated.seconds, stated)
        media.restart()
    whole = mono(_from_start(media), max_samples=int((WHOLE_S + 1.0) * SAMPLE_RATE_HZ))
    if whole.is_last:
        return cut_segments(whole, stated)
    media.restart()
    length_s = walked_length_s(media, _audio_stream(media))
    return stack_segments(*_passed(media, length_s), length_s, stated)


def segment_starts_s(duration_s: float) -> np.ndarray:
    """Where the segments of a long track begin: each in the middle of its equal part. float64 [AUDIO_SEGMENTS],
    seconds."""
    middles = (np.arange(AUDIO_SEGMENTS) + 0.5) * duration_s / AUDIO_SEGMENTS
    return np.maximum(middles - SEGMENT_SAMPLES / SAMPLE_RATE_HZ / 2, 0.0)


def cut_segments(whole: _Excerpt, stated: StatedLength | None) -> AudioSegments:
    """The segments of a track that was decoded whole. Raises TooShort."""
    waveform = whole.waveform
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    if len(waveform) < WINDOW_SAMPLES:
        raise TooShort(
            f"{1000 * duration_s:.1f} ms of audio, at least {1000 * WINDOW_SAMPLES / SAMPLE_RATE_HZ:.0f} ms are needed"
        )
    starts = np.arange(AUDIO_SEGMENTS) * SPAN_SAMPLES
    if len(waveform) > starts[-1] + SEGMENT_SAMPLES:
        starts = np.rint(segment_starts_s(duration_s) * SAMPLE_RATE_HZ).astype(np.int64)
    pieces = [_Excerpt(waveform[start : start + SEGMENT_SAMPLES], True, whole.notes) for start in starts]
    return stack_segments(pieces, starts / SAMPLE_RATE_HZ, duration_s, stated)


def stack_segments(
    excerpts: Sequence[_Excerpt], starts_s: np.ndarray, duration_s: float, stated: StatedLength | None
) -> AudioSegments:
    """The excerpts as arrays. Raises DecodeFailed where not one has a sample."""
    waveforms = np.zeros((AUDIO_SEGMENTS, SEGMENT_SAMPLES), np.float32)
    for row, excerpt in zip(waveforms, excerpts):
        row[: len(excerpt.waveform)] = excerpt.waveform
    num_samples = np.array([len(excerpt.waveform) for excerpt in excerpts], np.int64)
    if not num_samples.any():
        raise DecodeFailed("no audio where the container says it is")
    notes = tuple(dict.fromkeys(note for excerpt in excerpts for note in excerpt.notes))
    return AudioSegments(waveforms, num_samples, np.asarray(starts_s, np.float32), duration_s, stated, notes)


def mono(read: Callable[[], Frames], begin_s: float | None = None, max_samples: int | None = None) -> _Excerpt:
    """The samples of frames that follow each other, mixed down; of one channel where the channels cancel out.

    read: gives the frames, each time from the same place: whether channels cancel out is known at the end alone, and
    to keep the frames until then costs more than to decode the few such tracks twice.
    begin_s: presentation time of the first sample, in seconds; None takes them from the first frame on.
    max_samples: at most so many samples at SAMPLE_RATE_HZ; None takes all.
    Raises DecodeFailed where no sound has the shape of the frames.
    """
    excerpt, channels = _mixed(_Stretch(read(), begin_s, max_samples))
    if any(channel is not None for channel in channels):
        excerpt, _ = _mixed(_Stretch(read(), begin_s, max_samples), channels)
    return excerpt


class _Stretch:
    """The frames that hold some samples, with a margin for the resampler; arguments as of `mono`."""

    def __init__(self, decoded: Frames, begin_s: float | None, max_samples: int | None) -> None:
        self._decoded, self._begin_s, self.max_samples = decoded, begin_s, max_samples
        self.lead_s = 0.0  # of the first frame before the stretch; known when it has been read
        self.is_last = True  # whether the track ends in it; known when all have been read

    def __iter__(self) -> Frames:
        missing_s = MARGIN_S + (np.inf if self.max_samples is None else self.max_samples / SAMPLE_RATE_HZ)
        is_first = True
        for frame in self._decoded:
            if not frame.samples or not frame.sample_rate:
                continue
            length_s, lead_s = frame.samples / frame.sample_rate, self._lead_s(frame)
            if lead_s >= length_s + 0.02:
                continue  # it ends well before the place, but for a margin that the resampler needs
            if is_first:
                self.lead_s, is_first = lead_s, False
                missing_s += lead_s
            missing_s -= length_s
            self.is_last = missing_s > 0
            yield frame
            if not self.is_last:
                return

    def _lead_s(self, frame: av.AudioFrame) -> float:
        """Seconds of a frame, and of silence after it, before the stretch."""
        return max(0.0, self._begin_s - frame.time) if self._begin_s is not None and frame.time is not None else 0.0


def _mixed(stretch: _Stretch, channels: Sequence[int | None] = ()) -> tuple[_Excerpt, list[int | None]]:
    """A stretch mixed down, and the channel that is heard in each run of frames of one shape, None = the mix.

    channels: what is taken of each run; none = the mix of all.
    """
    parts: list[np.ndarray] = []
    notes: list[Note] = []
    heard: list[int | None] = []
    unmixable = None
    # A shape may change in mid-stream: spliced files, chained Ogg.
    for shape, run in itertools.groupby(
        stretch, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)
    ):
        channel = channels[len(heard)] if len(heard) < len(channels) else None
        graph = _mixer(*shape, channel)
        if graph is None:
            unmixable = f"no sound can be made of {shape[1]} at {shape[2]} Hz"
            heard.append(None)
            continue
        if channel is not None:
            notes.append(Note(CHANNELS_CANCEL, f"the channels cancel each other out; channel {channel + 1} is taken"))
        measured: list[av.AudioFrame] = []
        parts += _resampled(run, graph, measured)
        heard.append(heard_channel(measured))
    if unmixable and not parts:
        raise DecodeFailed(unmixable)
    waveform = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    waveform = waveform[round(stretch.lead_s * SAMPLE_RATE_HZ) :][: stretch.max_samples]
    # A float file may hold anything; a player clips at full scale, so does this.
    waveform = np.clip(np.nan_to_num(waveform, nan=0.0), -1.0, 1.0)
    is_last = stretch.is_last and (stretch.max_samples is None or len(waveform) < stretch.max_samples)
    return _Excerpt(waveform, is_last, tuple(notes)), heard


def _audio_stream(media: Media) -> Any:
    stream = media.stream("audio")
    if stream is None:
        raise NoStream("no audio stream that can be decoded")
    return stream


def _from_start(media: Media) -> Callable[[], Frames]:
    """Reads a medium's audio from its start. It has not been read from yet."""
    times = itertools.count()

    def read() -> Frames:
        if next(times):
            media.restart()
        stream = _audio_stream(media)
        return frames(stream, packets(media, stream))

    return read


def _sought(media: Media, stream: Any, start_s: float) -> _Excerpt:
    """The segment that begins there, in a medium that can be sought."""

    def read() -> Frames:
        seek(media, stream, start_s - PREROLL_S)
        return frames(stream, packets(media, stream))

    return _segment(read, origin_s(stream) + start_s)


def _passed(media: Media, length_s: float) -> tuple[list[_Excerpt], np.ndarray]:
    """The segments of a medium in one pass over its packets from the start, and where they begin."""
    starts_s = segment_starts_s(length_s)
    stream, encoded = _packets_from_start(media)

    def read_near(begin_s: float) -> Callable[[], Frames]:
        times = itertools.count()

        def read() -> Frames:
            nonlocal stream, encoded
            if next(times):
                stream, encoded = _packets_from_start(media)
            stream.codec_context.flush_buffers()
            return frames(stream, (packet for packet in encoded if _is_needed(packet, begin_s)))

        return read

    begins_s = [origin_s(stream) + start_s for start_s in starts_s]
    return [_segment(read_near(begin_s), begin_s) for begin_s in begins_s], starts_s


def _segment(read: Callable[[], Frames], begin_s: float) -> _Excerpt:
    """`mono` of one segment; without a sample where nothing of it can be decoded: the others may be sound."""
    try:
        return mono(read, begin_s, SEGMENT_SAMPLES)
    except DecodeFailed:
        return _Excerpt(np.zeros(0, np.float32), False, ())


def _packets_from_start(media: Media) -> tuple[Any, Iterator[Any]]:
    media.restart()
    stream = _audio_stream(media)
    return stream, packets(media, stream)


def _is_needed(packet: Any, begin_s: float) -> bool:
    """Whether a packet is decoded for a segment: those near it, and headers of a stream that was joined."""
    return packet_time_s(packet) >= begin_s - PREROLL_S or packet.has_sidedata("new_extradata") or not packet.size


def _resampled(run: Frames, graph: Graph, measured: list[av.AudioFrame]) -> list[np.ndarray]:
    """Mono samples at SAMPLE_RATE_HZ of frames of one shape. measured: gets one of MEASURED_EVERY frames."""
    parts: list[np.ndarray] = []
    for number, frame in enumerate(run, start=1):
        frame.pts = None  # the samples follow each other; gaps in damaged time stamps must not become silence
        graph.push(frame)
        if number % MEASURED_EVERY == 1:
            measured.append(frame)
        if number % BATCH_FRAMES == 0:
            parts += _pull(graph)
    graph.push(None)
    return [*parts, *_pull(graph)]


def _mixer(sample_format: str, layout: str, sample_rate_hz: int, channel: int | None) -> Graph | None:
    """Mono at SAMPLE_RATE_HZ from frames of that shape, of all channels or of one; None where no sound has that
    shape."""
    if sample_rate_hz > HIGHEST_RATE_HZ:
        return None
    graph = Graph()
    source = (
        f"sample_rate={sample_rate_hz}:sample_fmt={sample_format}:channel_layout={layout}:time_base=1/{sample_rate_hz}"
    )
    nodes = [graph.add("abuffer", source), graph.add("asetnsamples", f"{BATCH_FRAMES * 1024}:p=0")]
    if channel is not None:
        nodes.append(graph.add("pan", f"mono|c0=c{channel}"))
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
