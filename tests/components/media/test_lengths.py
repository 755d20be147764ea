"""The true length of a medium, whatever its header says; and what is missing is told. C21, D20."""

import io
import struct

import av
import numpy as np
import pytest

from components.media.extract import extract
from components.media.spectrogram import SAMPLE_RATE_HZ, dequantise

RATE_HZ = 16_000


def noise(duration_s, level=0.1):
    return np.random.default_rng(0).normal(0, level, round(duration_s * RATE_HZ)).astype(np.float32)


def index_first(data, path):
    """The MP4 with its index before the data, as on the web: a half of it can be opened."""
    with (
        av.open(io.BytesIO(data)) as given,
        av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        streams = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return path.read_bytes()


STATED = [
    pair.split()
    for pair in (
        *("wav pcm_s16le", "flac flac", "mp3 libmp3lame", "mp4 aac"),
        *("matroska flac", "aiff pcm_s16be", "au pcm_s16be", "caf pcm_s16le"),
    )
]


@pytest.mark.parametrize(("container", "codec"), STATED)
@pytest.mark.parametrize("duration_s", [8.0, 40.0])
def test_a_sound_cut_off_is_told_with_both_lengths(clips, tmp_path, container, codec, duration_s):
    data = clips.audio(noise(duration_s), rate=RATE_HZ, container=container, codec=codec)
    data = index_first(data, tmp_path / "x.mp4") if container == "mp4" else data
    assert extract(data).notes == ()
    cut = extract(data[: len(data) // 2])
    (note,) = cut.notes
    assert note.code == "truncated"
    assert cut.duration_s == pytest.approx(duration_s / 2, rel=0.06)
    assert f"states {duration_s:.2f} s" in note.detail or container == "mp4"
    assert f"{cut.duration_s:.2f} s are there" in note.detail
    assert cut.audio_num_frames.sum() >= 350, "and what is there is used"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("webm", "libvpx"), ("flv", "libx264")])
@pytest.mark.parametrize("num_frames", [100, 500])
def test_a_video_cut_off_is_told(clips, tmp_path, container, codec, num_frames):
    pictures = np.random.default_rng(0).integers(0, 255, (num_frames, 32, 32, 3), dtype=np.uint8)
    data = clips.video(pictures, container=container, codec=codec, stream_options={"g": "25"})
    data = index_first(data, tmp_path / "x.mp4") if container == "mp4" else data
    assert extract(data).notes == ()
    cut = extract(data[: len(data) // 2])
    assert [note.code for note in cut.notes] == ["truncated"]
    assert cut.duration_s == pytest.approx(num_frames / 50, rel=0.3)
    assert cut.video_num_frames == 4
    assert cut.video_times_s.max() < cut.duration_s


def test_a_video_that_is_longer_than_its_sound_is_not_truncated(clips):
    """WebM states one length for both."""
    assert extract(clips.video(clips.moving(100), container="webm", codec="libvpx", sound=clips.tone(1.0))).notes == ()


JOINED = [
    pair.split()
    for pair in (
        *("mp3 libmp3lame", "ogg libvorbis", "ogg libopus", "flac flac"),
        *("adts aac", "au pcm_s16be", "matroska flac", "ac3 ac3"),
    )
]


def pitches(arrays):
    """The loudest mel bin of each segment."""
    segments = zip(arrays.audio_log_mel, arrays.audio_num_frames)
    return [int(np.argmax(dequantise(mels[:frames]).mean(axis=0))) for mels, frames in segments if frames]


@pytest.mark.parametrize(("container", "codec"), JOINED)
def test_files_that_were_joined_have_the_length_of_all(clips, container, codec):
    """D20: the header speaks of the first part only. Segments are taken from all of it."""
    rate = 48_000 if codec in ("libopus", "ac3") else RATE_HZ
    low, high = (
        clips.audio(clips.tone(30.0, hz, rate), rate=rate, container=container, codec=codec) for hz in (300, 2000)
    )
    joined = extract(low + high)
    assert joined.duration_s == pytest.approx(60.0, abs=0.6)
    first, _, last = pitches(joined)
    assert first == pitches(extract(low))[0]
    assert last == pitches(extract(high))[0]


def test_joined_videos_have_the_length_of_both(clips):
    """Also where pictures within each are not stored in their order."""
    red, blue = (200, 30, 30), (30, 30, 200)
    options = {"x264-params": "bframes=3:b-adapt=0:scenecut=0"}
    parts = (
        clips.video(clips.flat([colour], 8), fps=1, container="mpegts", stream_options=options)
        for colour in (red, blue)
    )
    joined = extract(b"".join(parts))
    assert joined.duration_s == pytest.approx(16.0, abs=1.5)
    shown = joined.video_frames[: joined.video_num_frames].mean(axis=(1, 2))
    np.testing.assert_allclose(shown[[0, -1]], [red, blue], atol=14)


def test_a_joined_mp3_of_another_bit_rate(clips):
    """D20: the second part is twice as dense, so that no guess by size is right."""
    parts = [
        clips.audio(noise(30.0), rate=RATE_HZ, container="mp3", codec="libmp3lame", stream_options={"b": bits})
        for bits in ("32k", "128k")
    ]
    assert extract(b"".join(parts)).duration_s == pytest.approx(60.0, abs=0.3)


def test_a_large_tag_before_an_mp3_does_not_hide_its_length(clips):
    """A cover picture of 300 kB."""
    size = 300_000
    tag = b"ID3\x03\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    data = clips.audio(noise(30.0), rate=RATE_HZ, container="mp3", codec="libmp3lame", options={"id3v2_version": "0"})
    arrays = extract(tag + data)
    assert arrays.duration_s == pytest.approx(30.0, abs=0.1)
    assert arrays.notes == ()


@pytest.mark.parametrize("container", ["h264", "hevc", "m4v"])
@pytest.mark.parametrize("num_frames", [100, 1000])
def test_streams_that_cannot_seek(clips, container, num_frames):
    """Raw video: opened anew instead of sought, pictures from its whole length."""
    codec = {"h264": "libx264", "hevc": "libx265", "m4v": "mpeg4"}[container]
    options = {"g": "25", "preset": "ultrafast", "x265-params": "log-level=none:keyint=25"}
    found = extract(clips.video(clips.moving(num_frames), container=container, codec=codec, stream_options=options))
    assert found.duration_s == pytest.approx(num_frames / 25, abs=0.1)
    np.testing.assert_allclose(found.video_times_s, np.arange(4) * num_frames / 100, atol=1.1)


def test_raw_video_with_rare_key_frames(clips):
    """One key frame in 40 s: the pictures that are shown at the places, as far as decoding goes."""
    found = extract(
        clips.video(clips.moving(1000), container="h264", stream_options={"g": "2000", "preset": "ultrafast"})
    )
    assert found.video_num_frames == 4
    assert found.duration_s == pytest.approx(40.0, abs=0.1)


def test_wav_from_a_pipe_states_nothing_and_lacks_nothing():
    samples = (noise(2.0) * 32767).astype("<i2").tobytes()
    for size in (0, 0xFFFFFFFF):
        header = (
            b"RIFF"
            + struct.pack("<I", size)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
        )
        arrays = extract(header + b"data" + struct.pack("<I", size) + samples)
        assert arrays.duration_s == pytest.approx(2.0, abs=0.05)
        assert arrays.notes == ()
    assert SAMPLE_RATE_HZ == RATE_HZ
