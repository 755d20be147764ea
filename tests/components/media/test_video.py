"""Pictures of every kind of video: C18, C19, C21 to C23, and what else uploads contain."""

import io
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from components.contract import VIDEO_HEIGHT, VIDEO_KEY_FRAMES, VIDEO_WIDTH
from components.media import video
from components.media.errors import NoStream
from components.media.extract import extract
from components.media.video import sample_key_frames

ROOT = Path(__file__).parents[3]
COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def rotated(data, quarter_turns, mirrored=False):
    """The mp4 with a display matrix written into its track header, as phones do."""
    matrices = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}
    a, b, c, d = matrices[quarter_turns]
    if mirrored:
        a, c = -a, -c
    one = 1 << 16
    place = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    return data[:place] + matrix + data[place + 36 :]


def corner_picture(height=96, width=128):
    """Four quarters of different colours: no two orientations look alike."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (220, 40, 40)
    picture[: height // 2, width // 2 :] = (40, 220, 40)
    picture[height // 2 :, : width // 2] = (40, 40, 220)
    picture[height // 2 :, width // 2 :] = (220, 220, 220)
    return picture


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("mov", "mpeg4"), ("webm", "libvpx-vp9"), ("webm", "libvpx"), ("matroska", "libx264"), ("avi",
    "mpeg4"),
     ("mp4", "libx265"), ("mpegts", "libx264"), ("mp4", "libaom-av1"), ("flv", "libx264")],
)  # fmt: skip
def test_three_flat_colours_give_three_key_frames_at_the_cuts(clips, container, codec):
    """The colours, in order, at 0, 1 and 2 s, in every container."""
    options = {"cpu-used": "8"} if codec == "libaom-av1" else {}
    found = sample_key_frames(
        clips.video(clips.flat(COLOURS, 10), fps=10, container=container, codec=codec, stream_options=options)
    )
    np.testing.assert_allclose(found.times_s, [0, 1, 2], atol=0.06)
    np.testing.assert_allclose(found.pictures.mean(axis=(1, 2)), COLOURS, atol=14)
    assert found.duration_s == pytest.approx(3.0, abs=0.11)


def all_pictures(capture):
    while True:
        more, picture = capture.read()
        if not more:
            return
        yield picture


@pytest.mark.parametrize("seconds", [2, 30])
def test_pictures_and_times_are_those_of_opencv(clips, tmp_path, seconds):
    """OpenCV decodes everything; what it shows at our times is what we took, decoded whole or sought."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clips.video(clips.moving(seconds * 25, 96, 96), stream_options={"preset": "ultrafast", "g": "60"}))
    found = sample_key_frames(path)
    assert len(found.pictures) == VIDEO_KEY_FRAMES
    capture = cv2.VideoCapture(str(path))
    shown = [cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in all_pictures(capture)]
    capture.release()
    small = np.stack(
        [cv2.resize(picture, (VIDEO_WIDTH, VIDEO_HEIGHT), interpolation=cv2.INTER_AREA) for picture in shown]
    ).astype(int)
    for time_s, picture in zip(found.times_s, found.pictures):
        differences = np.abs(small - picture).mean(axis=(1, 2, 3))
        assert differences.min() < 6, "other filters for scaling, and the bar has sharp edges"
        assert np.argmin(differences) / 25 == pytest.approx(time_s, abs=0.01 if seconds == 2 else 0.25)


def test_a_moving_shot_is_sampled_evenly_in_time(clips):
    found = sample_key_frames(clips.video(clips.moving(50)))
    np.testing.assert_allclose(found.times_s, [0, 0.5, 1.0, 1.5], atol=0.041)


def test_variable_frame_rate_goes_by_time(clips):
    """C22: 25 pictures in the first second and 5 in the second; a brightness ramp tells the time."""
    times_s = np.concatenate([np.arange(25) / 25, 1 + np.arange(5) / 5])
    levels = (30 + 50 * times_s).astype(np.uint8)
    pictures = (
        levels[:, None, None, None]
        + np.linspace(0, 60, 64, dtype=np.uint8)[None, :, None, None]
        + np.zeros((1, 64, 64, 3), np.uint8)
    )
    for container, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx-vp9")):
        found = sample_key_frames(clips.video(pictures, times_s, container=container, codec=codec))
        wanted_s = np.arange(VIDEO_KEY_FRAMES) * found.duration_s / VIDEO_KEY_FRAMES
        expected_s = [times_s[times_s <= time_s][-1] for time_s in wanted_s]
        np.testing.assert_allclose(found.times_s, expected_s, atol=0.01)
        assert expected_s[3] > 1, "and not 22/25 s, where three quarters of the pictures lie"
        middle = found.pictures.mean(axis=(1, 2, 3)) - 30
        np.testing.assert_allclose(middle - middle[0], 50 * found.times_s, atol=4)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("seconds", [8, 60])
def test_pictures_that_are_not_stored_in_their_order(clips, container, seconds):
    """One a second, so that each is stored seconds after a later one: that is no other file joined to the first."""
    options = {"x264-params": "bframes=3:b-adapt=0:scenecut=0"}
    data = clips.video(clips.moving(seconds), fps=1, container=container, stream_options=options)
    with av.open(io.BytesIO(data)) as file:
        times = [packet.pts for packet in file.demux(video=0) if packet.size]
    assert times != sorted(times)
    found = sample_key_frames(data)
    assert found.duration_s == pytest.approx(seconds, abs=1.0)
    np.testing.assert_allclose(found.times_s, np.arange(4) * seconds / 4, atol=0.1 if seconds == 8 else 4.0)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_flag(clips, quarter_turns, mirrored):
    """C19: a display matrix gives the picture of the physically turned clip."""
    picture = corner_picture()
    plain = clips.video(np.stack([picture] * 5))
    expected = np.rot90(picture, -quarter_turns)
    if mirrored:
        expected = expected[:, ::-1]
    physical = clips.video(np.stack([expected] * 5))
    flagged = sample_key_frames(rotated(plain, quarter_turns, mirrored)).pictures[0].astype(int)
    assert np.abs(flagged - sample_key_frames(physical).pictures[0]).mean() < 4


def test_aspect_ratio_is_kept_by_a_centre_crop(clips):
    """A circle stays a circle; what is outside the middle square is cut off."""
    yy, xx = np.mgrid[:96, :160]
    picture = (
        np.where(((yy - 47.5) ** 2 + (xx - 79.5) ** 2 < 32**2)[..., None], 240, 20).astype(np.uint8).repeat(3, axis=-1)
    )
    picture[:, :16] = (240, 0, 0)
    shown = sample_key_frames(clips.video(np.stack([picture] * 3))).pictures[0]
    bright = shown[..., 1] > 128
    assert bright.any(axis=0).sum() == pytest.approx(32, abs=2)
    assert bright.any(axis=1).sum() == pytest.approx(32, abs=2)
    assert not (shown[..., 0].astype(int) - shown[..., 1] > 100).any(), "the red edge is outside"


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_pixels_that_are_not_square(codec):
    """Anamorphic video: 48 x 96 stored, pixels twice as wide as high; what is shown is a square with a circle in it. In
    VP9 the container alone says so."""
    yy, xx = np.mgrid[:96, :48]
    picture = (
        np.where(((yy - 47.5) ** 2 + (2 * xx - 47.5) ** 2 < 32**2)[..., None], 240, 20)
        .astype(np.uint8)
        .repeat(3, axis=-1)
    )
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    bright = sample_key_frames(file.getvalue()).pictures[0][..., 1] > 128
    assert bright.any(axis=0).sum() == pytest.approx(bright.any(axis=1).sum(), abs=2)


def test_video_without_sound_and_with(clips):
    """C18: kept, without audio features; its pictures equal those of the same video with sound."""
    pictures = clips.moving(50)
    silent = extract(clips.video(pictures))
    sounding = extract(clips.video(pictures, sound=clips.tone()))
    assert (silent.has_audio, silent.has_video) == (False, True)
    assert (sounding.has_audio, sounding.has_video) == (True, True)
    np.testing.assert_array_equal(silent.video_frames, sounding.video_frames)
    np.testing.assert_array_equal(silent.video_times_s, sounding.video_times_s)
    assert silent.notes == sounding.notes == ()


def test_length_missing_in_the_header(clips):
    """C21: webm recorded to a pipe states no length; it is measured."""
    data = clips.video(clips.moving(50), container="webm", codec="libvpx", options={"live": "1"}, pipe=True)
    with av.open(io.BytesIO(data)) as container:
        assert container.duration is None, "the header says nothing"
    arrays = extract(data)
    assert arrays.duration_s == pytest.approx(2.0, abs=0.05)
    assert arrays.video_num_frames == VIDEO_KEY_FRAMES
    np.testing.assert_allclose(arrays.video_times_s, [0, 0.5, 1.0, 1.5], atol=0.041)


@pytest.mark.parametrize("name", ["clip.gif", "clip.jpg", "clip"])
def test_gif_is_a_video(clips, tmp_path, name):
    """C23: by content, whatever the name; ten pictures or one."""
    for count, expected in ((10, VIDEO_KEY_FRAMES), (1, 1)):
        path = tmp_path / name
        path.write_bytes(clips.video(clips.moving(count), fps=10, container="gif", codec="gif"))
        arrays = extract(str(path))
        assert (arrays.has_audio, arrays.has_video, arrays.video_num_frames) == (False, True, expected)
        assert arrays.video_frames.shape == (VIDEO_KEY_FRAMES, VIDEO_HEIGHT, VIDEO_WIDTH, 3)
        assert not arrays.video_frames[expected:].any()


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_a_still_picture_is_a_video_of_one_picture(clips, codec):
    arrays = extract(clips.video(clips.moving(1), container="image2pipe", codec=codec))
    assert (arrays.has_video, arrays.video_num_frames, arrays.video_times_s[0]) == (True, 1, 0.0)


def long_video(clips, gop, num_frames=600, fps=10):
    """60 s, four scenes of 15 s, in each of which a bar moves."""
    colours = np.array([*COLOURS, (200, 200, 40)], np.uint8)
    pictures = clips.moving(num_frames, 48, 48) // 4 + colours.repeat(num_frames // 4, axis=0)[:, None, None] // 2
    return clips.video(pictures, fps=fps, stream_options={"g": str(gop), "sc_threshold": "0", "preset": "ultrafast"})


@pytest.mark.parametrize("gop", [25, 5000])
def test_long_videos_are_sought(clips, gop, monkeypatch):
    """Four scenes in 60 s: a key frame of each; few pictures decoded where there are key frames, all at most where
    there is one."""
    decoded = []
    original = video.frames
    monkeypatch.setattr(video, "frames", lambda *args: (decoded.append(1) or frame for frame in original(*args)))
    found = sample_key_frames(long_video(clips, gop))
    assert found.duration_s == pytest.approx(60, abs=0.2)
    assert len(found.pictures) == 4
    np.testing.assert_allclose(found.times_s, [0, 15, 30, 45], atol=60 / video.CANDIDATES)
    assert (np.floor(found.times_s / 15) == [0, 1, 2, 3]).all()
    if gop == 25:
        assert len(decoded) < 100


@pytest.mark.parametrize("fault", ["claims_more", "claims_nothing", "claims_less"])
def test_long_videos_with_a_wrong_length(clips, fault):
    """C21: cut off to a third, recorded to a pipe, or with a length of 1 s in the header: the true length, pictures
    from all of it."""
    pictures = clips.moving(300, 48, 48)
    options = {"live": "1"} if fault == "claims_nothing" else {}
    data = clips.video(
        pictures,
        fps=10,
        container="matroska",
        stream_options={"g": "20"},
        options=options,
        pipe=fault == "claims_nothing",
    )
    length_s = 30.0
    if fault == "claims_more":
        data, length_s = data[: len(data) // 3], 10.0
    if fault == "claims_less":
        place = data.index(b"\x44\x89\x88") + 3
        assert struct.unpack(">d", data[place : place + 8])[0] == pytest.approx(30_000)
        data = data[:place] + struct.pack(">d", 1000.0) + data[place + 8 :]
    found = sample_key_frames(data)
    assert found.duration_s == pytest.approx(length_s, abs=0.2 * length_s)
    assert len(found.pictures) == VIDEO_KEY_FRAMES
    assert found.times_s[-1] > length_s / 2


def test_audio_alone_is_no_video(clips):
    with pytest.raises(NoStream):
        sample_key_frames(clips.audio(clips.tone()))


@pytest.mark.parametrize(("height", "width"), [(16, 1200), (1200, 16), (16, 16), (48, 48)])
def test_extreme_shapes(clips, height, width):
    found = sample_key_frames(clips.video(clips.moving(3, height, width)))
    assert found.pictures.shape[1:] == (VIDEO_HEIGHT, VIDEO_WIDTH, 3)


@pytest.mark.parametrize("hidden", [(0, 0, 0), (200, 0, 0)])
def test_white_is_behind_what_is_transparent(hidden):
    """Whatever colour lies under transparent pixels; half transparent ones are mixed."""
    drawing = np.zeros((96, 96, 4), np.uint8)  # BGR and opacity
    drawing[..., :3] = hidden
    drawing[:, 32:64] = (0, 0, 255, 255)
    drawing[:, 64:] = (0, 0, 255, 128)
    picture = sample_key_frames(cv2.imencode(".png", drawing)[1].tobytes()).pictures[0]
    for column, colour in ((5, (255, 255, 255)), (24, (255, 0, 0)), (42, (255, 127, 127))):
        np.testing.assert_allclose(picture[:, column], np.tile(colour, (len(picture), 1)), atol=2)


def test_a_transparent_colour_of_a_palette_is_white():
    """A GIF of one pixel whose only colour is transparent."""
    gif = bytes.fromhex("47494638396101000100800000000000ff000021f90401000000002c00000000010001000002024401003b")
    np.testing.assert_array_equal(sample_key_frames(gif).pictures.mean((1, 2)), [[255, 255, 255]])


def test_named_colour_profiles_do_not_end_the_decoder(tmp_path):
    """PNGs with an iCCP chunk, many in one process whose garbage is collected in between."""
    path = tmp_path / "named.png"
    path.write_bytes(with_profile(cv2.imencode(".png", np.full((40, 60, 3), 90, np.uint8))[1].tobytes()))
    code = (
        "import gc, sys\n"
        "from components.media.video import sample_key_frames\n"
        "for _ in range(300):\n"
        "    assert (sample_key_frames(sys.argv[1]).pictures == 90).all()\n"
        "    gc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def with_profile(png: bytes) -> bytes:
    """A PNG with a colour profile that has a name, after its header."""
    body = b"iCCP" + b"a name\0\0" + zlib.compress(bytes(128))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]
