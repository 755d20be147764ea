"""A few pictures of a video with the times at which they are shown.

A short video is decoded whole; of a long one, CANDIDATES places are sought and the pictures there decoded, so that the cost depends on
the pictures and not on the length.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from components.contract import VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from components.media.containers import Media, Source, frames, open_media, origin_s, seek, walk_duration_s
from components.media.errors import DecodeFailed, NoStream
from components.media.keyframes import choose_key_frames

WHOLE_S = 10.0  # a video up to this length is decoded whole
WHOLE_FRAMES = 900  # and so is one of unknown length, up to as many pictures
CANDIDATES = 16  # places sought in a longer one
FORWARD_FRAMES = 1500  # pictures decoded at most where it has too few key frames: a minute at 25 a second
LONGEST_SIDE = 16 * max(VIDEO_HEIGHT, VIDEO_WIDTH)  # banners beyond 16:1 are squeezed


@dataclass(frozen=True)
class KeyFrames:
    """What was taken of a video, in time order."""

    pictures: (
        np.ndarray
    )  # uint8 [n, VIDEO_HEIGHT, VIDEO_WIDTH, 3], RGB, display orientation, 1 <= n <= VIDEO_KEY_FRAMES
    times_s: np.ndarray  # float32 [n], presentation times from the start of the video
    duration_s: float  # measured where the video was decoded whole or states no length, else as stated


@dataclass
class _Candidates:
    pictures: list[np.ndarray]
    times_s: list[float]
    end_s: float


def sample_key_frames(source: Source) -> KeyFrames:
    """The pictures that stand for a video (or a GIF, or a still picture: one picture at time 0), centre-cropped and scaled.

    Raises MediaError: what `open_media` raises; NoStream without video (cover art is none); DecodeFailed.
    """
    with open_media(source) as media:
        return key_frames_of(media)


def key_frames_of(media: Media) -> KeyFrames:
    """`sample_key_frames` of a medium that is open and has not been read from."""
    stream = media.stream("video")
    if stream is None:
        raise NoStream("no video stream that can be decoded")
    stated_s = media.stated_duration_s(stream)
    found = _whole(media, stream) if stated_s is None or stated_s <= WHOLE_S else None
    if found is None:  # long: as it says, or as it turned out
        duration_s = stated_s if stated_s and stated_s > WHOLE_S else walk_duration_s(media, stream)
        found = _sought(media, stream, duration_s)
        if (
            not found.times_s or found.times_s[-1] < 0.75 * duration_s
        ):  # nothing towards the end: cut off, or a wrong header
            seek(media, stream, 0.0)
            found = _sought(media, stream, walk_duration_s(media, stream))
    if not found.pictures:
        raise DecodeFailed("no picture where the container says it is")
    times_s = np.array(found.times_s)
    chosen = choose_key_frames(np.stack(found.pictures), times_s, found.end_s, VIDEO_KEY_FRAMES)
    return KeyFrames(np.stack([found.pictures[i] for i in chosen]), times_s[chosen].astype(np.float32), found.end_s)


def _whole(media: Media, stream: Any) -> _Candidates | None:
    """Every picture; None where there are more than expected."""
    found = _Candidates([], [], 0.0)
    for number, (time_s, frame) in enumerate(_timed(media, stream)):
        if number >= WHOLE_FRAMES or time_s > 2 * WHOLE_S:
            return None
        found.pictures.append(thumbnail(frame, stream))
        found.times_s.append(time_s)
        found.end_s = max(found.end_s, time_s + _shown_s(frame, stream))
    return _in_order(found)


def _sought(media: Media, stream: Any, duration_s: float) -> _Candidates:
    """Pictures at CANDIDATES evenly spaced places: the key frames before them, which cost one picture each.

    Where key frames are so rare that there are too few, the pictures shown at the places, as far as FORWARD_FRAMES go.
    """
    places_s = np.arange(CANDIDATES) * duration_s / CANDIDATES
    near = _Candidates([], [], duration_s)
    for place_s in places_s:
        seek(media, stream, float(place_s))
        key_frame = next(_timed(media, stream), None)
        if key_frame is not None:
            _add(near, *key_frame, stream)
    if len(near.pictures) >= VIDEO_KEY_FRAMES:
        return near
    forward = _Candidates([], [], duration_s)
    seek(media, stream, 0.0)
    shown: tuple[float, av.VideoFrame] | None = None
    for time_s, frame in itertools.islice(_timed(media, stream), FORWARD_FRAMES):
        while shown and len(places_s) and time_s > places_s[0]:
            _add(forward, *shown, stream)
            places_s = places_s[1:]
        shown = time_s, frame
    if shown:
        _add(forward, *shown, stream)
    return max(near, forward, key=lambda found: len(found.pictures))


def _add(found: _Candidates, time_s: float, frame: av.VideoFrame, stream: Any) -> None:
    if not found.times_s or time_s > found.times_s[-1]:
        found.pictures.append(thumbnail(frame, stream))
        found.times_s.append(time_s)


def _timed(media: Media, stream: Any) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds from the start, picture). A picture without a time stamp follows its predecessor by the frame rate."""
    next_s = 0.0
    try:
        for frame in frames(media, stream):
            time_s = frame.time - origin_s(stream) if frame.time is not None else next_s
            next_s = time_s + _shown_s(frame, stream)
            yield max(time_s, 0.0), frame
    except DecodeFailed:
        return  # the caller sees that there was nothing


def _shown_s(frame: av.VideoFrame, stream: Any) -> float:
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    rate = stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 0.0


def _in_order(found: _Candidates) -> _Candidates:
    order = np.argsort(found.times_s, kind="stable")
    return _Candidates([found.pictures[i] for i in order], [found.times_s[i] for i in order], found.end_s)


def thumbnail(frame: av.VideoFrame, stream: Any) -> np.ndarray:
    """A picture as people see it (pixel shape and rotation applied), centre-cropped to VIDEO_HEIGHT x VIDEO_WIDTH: uint8 [H, W, 3], RGB."""
    pixel_shape = float(stream.codec_context.sample_aspect_ratio or 1) or 1.0
    width, height = frame.width * pixel_shape, float(frame.height)
    # The square case keeps this simple: rotation by 90 degrees does not change the size that is wanted.
    scale = max(VIDEO_WIDTH, VIDEO_HEIGHT) / min(width, height)
    scaled_width = min(max(round(width * scale), VIDEO_WIDTH), LONGEST_SIDE)
    scaled_height = min(max(round(height * scale), VIDEO_HEIGHT), LONGEST_SIDE)
    small = frame.reformat(width=scaled_width, height=scaled_height, format="rgb24", interpolation="AREA").to_ndarray()
    top, left = (scaled_height - VIDEO_HEIGHT) // 2, (scaled_width - VIDEO_WIDTH) // 2
    return np.ascontiguousarray(_upright(small[top : top + VIDEO_HEIGHT, left : left + VIDEO_WIDTH], frame))


def _upright(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the display matrix: a right angle, and a mirror image from front cameras."""
    side_data: Any = frame.side_data.get("DISPLAYMATRIX")
    matrix = b"" if side_data is None else bytes(side_data)
    if len(matrix) < 20:
        return picture
    a, b, _, c, d = struct.unpack("<5i", matrix[:20])  # x' = a x + c y, y' = b x + d y
    if abs(a) < abs(b):  # the axes change places
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
