"""One medium in, the contract's arrays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from components.media.audio import AudioSegments, sample_segments, segments_of
from components.media.containers import Media, Source, open_media
from components.media.errors import ContentError, NoStream, TooShort
from components.media.lengths import Note, truncation
from components.media.sndfile import sndfile_segments
from components.media.spectrogram import log_mel, num_frames, quantise
from components.media.video import KeyFrames, key_frames_of, sample_key_frames

T = TypeVar("T")


@dataclass(frozen=True)
class MediaArrays:
    """AUDIO_FEATURES and VIDEO_FEATURES of one medium; None is "there is none"."""

    audio_log_mel: np.ndarray | None  # uint8 [AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS]
    audio_num_frames: np.ndarray | None  # int64 [AUDIO_SEGMENTS]
    video_frames: np.ndarray | None  # uint8 [VIDEO_KEY_FRAMES, VIDEO_HEIGHT, VIDEO_WIDTH, 3]
    video_times_s: np.ndarray | None  # float32 [VIDEO_KEY_FRAMES]
    video_num_frames: int  # 0 without video
    duration_s: float  # the longer of both, seconds from the start
    notes: tuple[Note, ...] = ()  # truncated, channels that cancel out, a modality that is there and could not be used

    @property
    def has_audio(self) -> bool:
        """Whether there is audio to learn from."""
        return self.audio_log_mel is not None

    @property
    def has_video(self) -> bool:
        """Whether there is video to learn from."""
        return self.video_frames is not None


def extract(source: Source) -> MediaArrays:
    """The stored features of a medium, in this process (`isolation.Decoder` is the safe way).

    What FFmpeg refuses is tried by libsndfile.
    Raises MediaError: what `open_media` raises, or where neither audio nor video could be used, the more telling of
    both reasons.
    """
    try:
        with open_media(source) as media:
            return _features(media)
    except TooShort:
        raise
    except ContentError:
        segments = sndfile_segments(source)
        if segments is None:
            raise
        return _arrays(segments, None, segments.notes)


def segments(source: Source) -> AudioSegments:
    """`components.media.audio.sample_segments`, by libsndfile where FFmpeg refuses. Raises MediaError as that does."""
    try:
        return sample_segments(source)
    except TooShort:
        raise
    except ContentError:
        found = sndfile_segments(source)
        if found is None:
            raise
        return found


def pictures(source: Source) -> KeyFrames:
    """The pictures that `extract` takes, at `video.LARGE` pixels a side. Raises MediaError."""
    return sample_key_frames(source, large=True)


def _features(media: Media) -> MediaArrays:
    audio, audio_error = _attempt(segments_of, media)
    video: KeyFrames | None = None
    video_error: ContentError | None = NoStream("no video stream that can be decoded")
    if media.stream("video") is not None:
        media.restart()
        video, video_error = _attempt(key_frames_of, media)
    if audio is None and video is None:
        assert audio_error is not None
        raise video_error if isinstance(audio_error, NoStream) and video_error is not None else audio_error
    failures = {"audio": audio_error, "video": video_error}
    unusable = [
        Note(f"{name}_unusable", f"{error.reason}: {error.detail}")
        for name, error in failures.items()
        if error is not None and not isinstance(error, NoStream)
    ]
    notes = (*_truncation(audio, video), *(audio.notes if audio else ()), *unusable)
    return _arrays(audio, video, notes)


def _attempt(sample: Callable[[Media], T], media: Media) -> tuple[T | None, ContentError | None]:
    try:
        return sample(media), None
    except ContentError as error:
        return None, error


def _truncation(audio: AudioSegments | None, video: KeyFrames | None) -> tuple[Note, ...]:
    """The note of a medium that is shorter than it says: of the tracks by their own headers, else as a whole."""
    tracks = [track for track in (audio, video) if track is not None and track.stated is not None]
    longest_s = max((track.duration_s for track in (audio, video) if track is not None), default=0.0)
    for track in tracks:
        assert track.stated is not None
        found_s = track.duration_s if track.stated.is_of_stream else longest_s
        if notes := truncation(track.stated.seconds, found_s):
            return notes
    return ()


def _arrays(audio: AudioSegments | None, video: KeyFrames | None, notes: tuple[Note, ...]) -> MediaArrays:
    duration_s = max(track.duration_s for track in (audio, video) if track is not None)
    return MediaArrays(**_audio_arrays(audio), **_video_arrays(video), duration_s=duration_s, notes=notes)


def _audio_arrays(segments: AudioSegments | None) -> dict:
    if segments is None:
        return {"audio_log_mel": None, "audio_num_frames": None}
    valid = np.array([min(num_frames(int(samples)), AUDIO_FRAMES) for samples in segments.num_samples], np.int64)
    stored = quantise(log_mel(segments.waveforms))  # [S, F, M]
    stored[np.arange(AUDIO_FRAMES) >= valid[:, None]] = 0  # frames that reach into the padding
    assert stored.shape == (AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS)
    return {"audio_log_mel": stored, "audio_num_frames": valid}


def _video_arrays(key_frames: KeyFrames | None) -> dict:
    if key_frames is None:
        return {"video_frames": None, "video_times_s": None, "video_num_frames": 0}
    valid = len(key_frames.pictures)
    pictures = np.zeros((VIDEO_KEY_FRAMES, VIDEO_HEIGHT, VIDEO_WIDTH, 3), np.uint8)
    pictures[:valid] = key_frames.pictures
    times_s = np.zeros(VIDEO_KEY_FRAMES, np.float32)
    times_s[:valid] = key_frames.times_s
    return {"video_frames": pictures, "video_times_s": times_s, "video_num_frames": valid}
