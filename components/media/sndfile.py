"""Audio that FFmpeg refuses and libsndfile plays: other readings of the same standards, and a few old formats."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import av
import numpy as np
import soundfile

from components.media.audio import (
    PREROLL_S,
    WHOLE_S,
    AudioSegments,
    cut_segments,
    mono,
    segment_starts_s,
    stack_segments,
)
from components.media.containers import Source, opened, read_head
from components.media.errors import MediaError
from components.media.signatures import other_than_media
from components.media.spectrogram import SEGMENT_SAMPLES

# Recordings; left out are tables (MAT4, MAT5), headerless samples (RAW), and SD2, which needs a second file.
FORMATS = {
    *("AIFF", "AU", "AVR", "CAF", "FLAC", "HTK", "IRCAM", "MP3", "MPC2K", "NIST", "OGG", "PAF", "PVF", "RF64"),
    *("SDS", "SVX", "VOC", "W64", "WAV", "WAVEX", "WVE", "XI"),
}
BLOCK_SAMPLES = 4096


def sndfile_segments(source: Source) -> AudioSegments | None:
    """`components.media.audio.sample_segments` by libsndfile; None where that cannot play the source either."""
    try:
        with opened(source) as file:
            if other_than_media(read_head(file)):
                return None
            file.seek(0)
            with soundfile.SoundFile(file) as sound:
                return _segments(sound) if sound.format in FORMATS else None
    except (soundfile.SoundFileError, MediaError, OSError, ValueError, TypeError):
        return None  # the caller has FFmpeg's reason, which says more


def _segments(sound: soundfile.SoundFile) -> AudioSegments:
    length_s = sound.frames / sound.samplerate
    if length_s <= WHOLE_S:
        return cut_segments(mono(partial(_frames, sound, 0.0)), None)
    starts_s = segment_starts_s(length_s)
    excerpts = [mono(partial(_frames, sound, start_s), start_s, SEGMENT_SAMPLES) for start_s in starts_s]
    return stack_segments(excerpts, starts_s, length_s, None)


def _frames(sound: soundfile.SoundFile, start_s: float) -> Iterator[av.AudioFrame]:
    """Blocks of samples from shortly before that time on, as FFmpeg's frames."""
    place = max(0, round((start_s - PREROLL_S) * sound.samplerate))
    sound.seek(place)
    while True:
        block = sound.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)  # [samples, channels]
        if not len(block):
            return
        yield _frame(block, place, sound.samplerate)
        place += len(block)


def _frame(block: np.ndarray, place: int, rate_hz: int) -> av.AudioFrame:
    """Samples float32 [samples, channels] as a frame; more channels than two are mixed evenly: their places are not
    known."""
    if block.shape[1] > 2:
        block = block.mean(axis=1, keepdims=True)
    layout = "mono" if block.shape[1] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, place, Fraction(1, rate_hz)
    return frame
