"""One medium in, the contract's arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from components.media.audio import AudioSegments, segments_of
from components.media.containers import Media, Source, open_media
from components.media.errors import ContentError, NoStream
from components.media.spectrogram import log_mel, num_frames, quantise
from components.media.video import KeyFrames, key_frames_of


@dataclass(frozen=True)
class MediaArrays:
    """AUDIO_FEATURES and VIDEO_FEATURES of one medium; None is "there is none"."""

    audio_log_mel: np.ndarray | None  # uint8 [S, F, M]
    audio_num_frames: np.ndarray | None  # int64 [S]
    video_frames: np.ndarray | None  # uint8 [K, H, W, 3]
    video_times_s: np.ndarray | None  # float32 [K]
    video_num_frames: int  # 0 without video
    duration_s: float  # the longer of both, seconds from the start
    damage: tuple[
        str, ...
    ] = ()  # "audio:decode_failed": a modality is there and could not be used, the other one could

    @property
    def has_audio(self) -> bool:
        """Whether there is audio to learn from."""
        return self.audio_log_mel is not None

    @property
    def has_video(self) -> bool:
        """Whether there is video to learn from."""
        return self.video_frames is not None


def extract(source: Source) -> MediaArrays:
    """The stored features of a medium, from a local path or from its bytes, in this process (`isolation.Decoder` is the safe way).

    Raises MediaError: what `open_media` raises, or where neither audio nor video could be used, the more telling of both reasons.
    """
    with open_media(source) as media:
        has_picture = media.stream("video") is not None
        segments, audio_error = _attempt(segments_of, media)
    key_frames, video_error = None, NoStream("no video stream that can be decoded")
    if has_picture:
        with open_media(source) as media:  # anew: where the audio ended, not every format can go back
            key_frames, video_error = _attempt(key_frames_of, media)
    if segments is None and key_frames is None:
        assert audio_error is not None
        raise video_error if isinstance(audio_error, NoStream) else audio_error
    failures = {"audio": audio_error, "video": video_error}
    damage = [f"{name}:{error.reason}" for name, error in failures.items() if error and not isinstance(error, NoStream)]
    durations_s = [part.duration_s for part in (segments, key_frames) if part is not None]
    return MediaArrays(
        **_audio_arrays(segments), **_video_arrays(key_frames), duration_s=max(durations_s), damage=tuple(damage)
    )


def _attempt(sample, media: Media):
    try:
        return sample(media), None
    except ContentError as error:
        return None, error


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
