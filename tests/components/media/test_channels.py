"""Sound whose channels cancel each other out in the mix is what a listener of one channel hears; players' choice of
tracks, D23."""

import io

import av
import numpy as np
import pytest
from av.stream import Disposition

from components.media.audio import CHANNELS_CANCEL, decode_audio, sample_segments
from components.media.extract import extract
from components.media.sndfile import sndfile_segments
from tests.clips import _encode_audio

COMPRESSED = [
    ("wav", "pcm_s16le"),
    ("wav", "pcm_u8"),
    ("ipod", "aac"),
    ("ogg", "libvorbis"),
    ("ac3", "ac3"),
    ("mp3", "libmp3lame"),
]


@pytest.mark.parametrize(("container", "codec"), COMPRESSED)
@pytest.mark.parametrize("right", [-1.0, -0.95, -0.9])
@pytest.mark.parametrize("duration_s", [2.0, 30.0])
def test_opposite_channels_are_heard_and_told(clips, container, codec, right, duration_s):
    """Of opposite phase, nearly so, and with the noise of a codec between: the level of one channel is kept."""
    tone = clips.tone(duration_s)
    data = clips.audio(np.stack([tone, right * tone]), layout="stereo", container=container, codec=codec)
    segments = sample_segments(data)
    assert {note.code for note in segments.notes} == {CHANNELS_CANCEL}
    assert np.abs(segments.waveforms[0, 8000:28_000]).max() == pytest.approx(0.5, abs=0.08)
    assert CHANNELS_CANCEL in {note.code for note in extract(data).notes}


def test_what_a_mix_keeps_is_mixed(clips):
    """One silent channel, independent channels, the same on both, quiet ones, a wide recording: the mean, and no
    note."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 0.1, (2, 88_200)).astype(np.float32)
    pairs = {
        "one silent": (one, 0 * one),
        "independent": (one, other),
        "equal": (one, one),
        "quiet": (1e-3 * one, 1e-3 * one),
        "wide": (one, -0.5 * one + other),
    }
    for name, pair in pairs.items():
        found = sample_segments(clips.audio(np.stack(pair), layout="stereo"))
        assert found.notes == (), name
        mean = decode_audio(clips.audio((pair[0] + pair[1]) / 2))
        np.testing.assert_allclose(found.waveforms[0, 400:20_000], mean[400:20_000], atol=2e-3, err_msg=name)


@pytest.mark.parametrize("read", [sample_segments, sndfile_segments])
@pytest.mark.parametrize(("duration_s", "kept"), [(2.0, 1.0), (60.0, 1.0), (60.0, 0.6)])
def test_the_channel_that_is_heard_has_every_sample(clips, read, duration_s, kept):
    """Decoded whole, sought, and passed over since it ends before its header says: as a file of that channel alone.

    Such a track is read twice, each time from the same place.
    """
    left = (clips.tone(duration_s) * np.linspace(0.2, 1.0, int(duration_s * 44_100), dtype=np.float32)).astype("f4")
    stereo, alone = clips.audio(np.stack([left, -left]), layout="stereo"), clips.audio(left)
    num_frames = int(kept * len(left))  # of two bytes a channel
    found, expected = (
        read(data[: data.index(b"data") + 8 + num_frames * 2 * channels])
        for data, channels in ((stereo, 2), (alone, 1))
    )
    assert {note.code for note in found.notes} == {CHANNELS_CANCEL}
    np.testing.assert_array_equal(found.num_samples, expected.num_samples)
    np.testing.assert_array_equal(found.starts_s, expected.starts_s)
    np.testing.assert_allclose(found.waveforms, expected.waveforms, atol=1e-4)
    assert np.abs(found.waveforms[0]).max() > 0.05


def test_only_the_part_that_cancels_out_is_taken_of_one_channel(clips):
    """Joined files of other shapes: each is mixed by what it is."""
    tone = clips.tone(2.0)
    usual = clips.audio(tone, container="mp3", codec="libmp3lame")
    opposite = clips.audio(np.stack([tone, -tone]), layout="stereo", container="mp3", codec="libmp3lame")
    for parts in ((usual, opposite), (opposite, usual)):
        waveform = decode_audio(b"".join(parts))
        assert [np.abs(half[8000:24_000]).max() for half in (waveform[:32_000], waveform[32_000:])] == pytest.approx(
            [0.5, 0.5], abs=0.08
        )


def test_silence_has_no_note(clips):
    assert sample_segments(clips.audio(np.zeros((2, 44_100), np.float32), layout="stereo")).notes == ()


def test_the_loudest_of_many_channels_is_taken(clips):
    """Quadraphonic, two pairs of opposite phase."""
    tone = clips.tone()
    data = clips.audio(np.stack([0.5 * tone, -0.5 * tone, tone, -tone]), layout="quad")
    segments = sample_segments(data)
    assert np.abs(segments.waveforms[0, 8000:28_000]).max() == pytest.approx(0.5, abs=0.02)
    (note,) = segments.notes
    assert "channel 3" in note.detail or "channel 4" in note.detail


def several_tracks(clips, pitches_hz, default=None, secondary=None):
    """A Matroska file with a sound track for each pitch."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska", options={"default_mode": "passthrough"}) as out:
        streams = []
        for number in range(len(pitches_hz)):
            stream = out.add_stream("flac", rate=44_100)
            stream.layout = "mono"
            stream.disposition = Disposition.default.value if number == default else 0
            if number == secondary:
                stream.disposition = Disposition.comment.value
            streams.append(stream)
        for stream, hz in zip(streams, pitches_hz):
            _encode_audio(out, stream, clips.tone(1.0, hz), 44_100)
    return file.getvalue()


def pitch_hz(data):
    waveform = decode_audio(data)
    return np.argmax(np.abs(np.fft.rfft(waveform))) * 16_000 / len(waveform)


@pytest.mark.parametrize(
    ("default", "secondary", "expected_hz"),
    [(None, None, 300), (1, None, 600), (2, None, 900), (None, 0, 600), (0, 0, 600), (2, 1, 900)],
)
def test_the_track_that_a_player_would_choose(clips, default, secondary, expected_hz):
    """D23: the one marked as default, else the first; a commentary only where there is nothing else."""
    data = several_tracks(clips, [300, 600, 900], default, secondary)
    assert pitch_hz(data) == pytest.approx(expected_hz, abs=2)


def test_a_commentary_alone_is_taken(clips):
    assert pitch_hz(several_tracks(clips, [300], secondary=0)) == pytest.approx(300, abs=2)
