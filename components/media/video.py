"""A few pictures of a video with the times at which they are shown.

A short video is decoded whole; of a long one, CANDIDATES places are sought and the pictures there decoded, so that the
cost depends on the pictures and not on the length. Where seeking is not possible, or the header is wrong, its key
frames are decoded in one pass.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import av
import numpy as np
from av.filter import Graph

from components.contract import VIDEO_HEIGHT, VIDEO_KEY_FRAMES
from components.media.containers import Media, Source, frames, open_media, origin_s, packets, seek
from components.media.errors import DecodeFailed, NoStream
from components.media.keyframes import choose_key_frames
from components.media.lengths import StatedLength, ends_as_stated, stated_length, walked_length_s
from components.media.signatures import is_animated_webp

WHOLE_S = 10.0  # a video up to this length is decoded whole
WHOLE_FRAMES = 900  # and so is one of unknown length, up to as many pictures
CANDIDATES = 16  # places sought in a longer one
FORWARD_FRAMES = 1500  # pictures decoded at most where it has too few key frames: a minute at 25 a second
LARGE = 224  # pixels a side of the pictures for encoders of other people
_NAME_PROFILES = ("png", "apng")  # FFmpeg's decoders that give a colour profile's name as its metadata
LONGEST = 16  # sides; banners beyond 16:1 are squeezed


@dataclass(frozen=True)
class KeyFrames:
    """What was taken of a video, in time order."""

    pictures: np.ndarray  # uint8 [n, side, side, 3], RGB, as displayed, 1 <= n <= VIDEO_KEY_FRAMES
    times_s: np.ndarray  # float32 [n], presentation times from the start of the video
    duration_s: float  # as stated where the video ends there, else measured
    stated: StatedLength | None = None  # what the header says of its length


@dataclass
class _Candidates:
    end_s: float
    large: bool  # whether they are kept at LARGE too
    pictures: list[np.ndarray] = field(default_factory=list)  # by which is chosen
    large_pictures: list[np.ndarray] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    def add(self, time_s: float, frame: av.VideoFrame, stream: Any) -> None:
        """Take a picture, whose time is not that of another."""
        self.pictures.append(thumbnail(frame, stream))
        if self.large:
            self.large_pictures.append(thumbnail(frame, stream, LARGE))
        self.times_s.append(time_s)


def sample_key_frames(source: Source, large: bool = False) -> KeyFrames:
    """The pictures that stand for a video (or a GIF, or a still picture: one at time 0), centre-cropped and scaled.

    large: the same pictures of LARGE pixels a side, in place of VIDEO_HEIGHT.
    Raises MediaError: what `open_media` raises; NoStream without video (cover art is none); DecodeFailed.
    """
    with open_media(source) as media:
        return key_frames_of(media, large)


def key_frames_of(media: Media, large: bool = False) -> KeyFrames:
    """`sample_key_frames` of a medium that is open and has not been read from."""
    stream = _video_stream(media)
    stated = stated_length(media, stream)
    found = None
    if stated is not None and stated.seconds > WHOLE_S:
        found = _by_header(media, stream, stated.seconds, large)
        stream = stream if found else _restarted(media)
    found = found or _whole(media, stream, large) or _passed(media, large)
    if not found.pictures:
        animated = " (an animated WebP: only still ones are decoded)" if is_animated_webp(media.head) else ""
        raise DecodeFailed(f"no picture where the container says it is{animated}")
    times_s = np.array(found.times_s)
    chosen = choose_key_frames(np.stack(found.pictures), times_s, found.end_s, VIDEO_KEY_FRAMES)
    pictures = found.large_pictures if large else found.pictures
    return KeyFrames(np.stack([pictures[i] for i in chosen]), times_s[chosen].astype(np.float32), found.end_s, stated)


def _video_stream(media: Media) -> Any:
    stream = media.stream("video")
    if stream is None:
        raise NoStream("no video stream that can be decoded")
    return stream


def _restarted(media: Media) -> Any:
    media.restart()
    return _video_stream(media)


def _whole(media: Media, stream: Any, large: bool) -> _Candidates | None:
    """Every picture; None where there are more than expected."""
    found = _Candidates(0.0, large)
    for number, (time_s, frame) in enumerate(_timed(media, stream)):
        if number >= WHOLE_FRAMES or time_s > 2 * WHOLE_S:
            return None
        found.add(time_s, frame, stream)
        found.end_s = max(found.end_s, time_s + _shown_s(frame, stream))
    return _in_order(found)


def _by_header(media: Media, stream: Any, stated_s: float, large: bool) -> _Candidates | None:
    """Pictures of a long video, by seeking; None where it does not end as stated, or cannot be sought to its end."""
    if not ends_as_stated(media, stream, stated_s):
        return None
    places_s = _places_s(stated_s)
    found = _Candidates(stated_s, large)
    for place_s in places_s:
        seek(media, stream, float(place_s))
        key_frame = next(_timed(media, stream), None)
        if key_frame is not None:
            _add(found, *key_frame, stream)
    if not found.times_s or found.times_s[-1] < 0.75 * stated_s:
        return None
    if len(found.pictures) >= VIDEO_KEY_FRAMES:
        return found
    stream = _restarted(media)  # key frames are rare: the pictures that are shown at the places, as far as it goes
    forward = _shown_at(places_s, itertools.islice(_timed(media, stream), FORWARD_FRAMES), stream, stated_s, large)
    return max(found, forward, key=lambda candidates: len(candidates.pictures))


def _passed(media: Media, large: bool) -> _Candidates:
    """Pictures of a video that cannot be sought, or is not as long as it says: the key frames, in one pass."""
    length_s = walked_length_s(media, _restarted(media))
    places_s = _places_s(length_s)
    stream = _restarted(media)
    stream.codec_context.skip_frame = "NONKEY"
    found = _shown_at(places_s, _timed(media, stream), stream, length_s, large)
    if len(found.pictures) >= VIDEO_KEY_FRAMES:
        return found
    stream = _restarted(media)
    forward = _shown_at(places_s, itertools.islice(_timed(media, stream), FORWARD_FRAMES), stream, length_s, large)
    return max(found, forward, key=lambda candidates: len(candidates.pictures))


def _places_s(length_s: float) -> np.ndarray:
    return np.arange(CANDIDATES) * length_s / CANDIDATES


def _shown_at(
    places_s: np.ndarray, timed: Iterator[tuple[float, av.VideoFrame]], stream: Any, end_s: float, large: bool
) -> _Candidates:
    """The pictures that are shown at those times, of pictures in time order."""
    found = _Candidates(end_s, large)
    shown: tuple[float, av.VideoFrame] | None = None
    for time_s, frame in timed:
        if shown and len(places_s) and time_s > places_s[0]:
            _add(found, *shown, stream)
            places_s = places_s[places_s >= time_s]
        shown = time_s, frame
    if shown:
        _add(found, *shown, stream)
    return found


def _add(found: _Candidates, time_s: float, frame: av.VideoFrame, stream: Any) -> None:
    if not found.times_s or time_s > found.times_s[-1]:
        found.add(time_s, frame, stream)


def _timed(media: Media, stream: Any) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds from the start, picture). A picture without a time stamp follows its predecessor by the frame rate."""
    next_s = 0.0
    try:
        for frame in frames(stream, packets(media, stream)):
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
    pictures, large_pictures = (
        [values[i] for i in order if values] for values in (found.pictures, found.large_pictures)
    )
    return _Candidates(found.end_s, found.large, pictures, large_pictures, [found.times_s[i] for i in order])


def thumbnail(frame: av.VideoFrame, stream: Any, side: int = VIDEO_HEIGHT) -> np.ndarray:
    """A picture as displayed (pixel shape and rotation applied, white behind what is transparent), centre-cropped:
    uint8 [side, side, 3], RGB."""
    pixel_shape = float(stream.sample_aspect_ratio or 1)  # of the container, where it states one
    width, height = frame.width * pixel_shape, float(frame.height)
    # The square case keeps this simple: rotation by 90 degrees does not change the size that is wanted.
    scaled_width, scaled_height = (
        min(max(round(length * side / min(width, height)), side), LONGEST * side) for length in (width, height)
    )
    colours = "rgba" if _is_transparent(frame.format) else "rgb24"
    small = frame.reformat(width=scaled_width, height=scaled_height, format=colours, interpolation="AREA").to_ndarray()
    top, left = (scaled_height - side) // 2, (scaled_width - side) // 2
    picture = small[top : top + side, left : left + side]
    picture = _on_white(picture) if colours == "rgba" else picture
    return np.ascontiguousarray(_upright(picture, _display_matrix(frame, stream)))


def _is_transparent(pixels: av.VideoFormat) -> bool:
    """Whether pixels of a format may be transparent; those of a palette may."""
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


def _on_white(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] -> uint8 [H, W, 3], as it would look on a white page."""
    opacity = picture[..., 3:].astype(np.uint16)
    return ((picture[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _upright(picture: np.ndarray, matrix: bytes) -> np.ndarray:
    """Apply the display matrix: a right angle, and a mirror image from front cameras."""
    if len(matrix) < 20:
        return picture
    a, b, _, c, d = struct.unpack("<5i", matrix[:20])  # x' = a x + c y, y' = b x + d y
    if abs(a) < abs(b):  # the axes change places
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(frame: av.VideoFrame, stream: Any) -> bytes:
    """How a picture is turned for display; nothing where it is shown as it is.

    PyAV (16.1) frees metadata of a picture's side data twice once they have been looked at. Of FFmpeg's decoders those
    of PNG alone give some any, the name of a colour profile: there the profile is taken away before.
    """
    if stream.codec_context.name in _NAME_PROFILES:
        frame = _without_profile(frame)
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    return b"" if found is None else bytes(found)


def _without_profile(frame: av.VideoFrame) -> av.VideoFrame:
    graph = Graph()
    source = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1"
    nodes = graph.add("buffer", source), graph.add("sidedata", "mode=delete:type=ICC_PROFILE"), graph.add("buffersink")
    for node, following in zip(nodes, nodes[1:]):
        node.link_to(following)
    graph.configure()
    graph.push(frame)
    return cast(av.VideoFrame, graph.pull())
