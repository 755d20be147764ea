"""Audio of every kind comes out as the same sound: C13 to C17, C21, C24, and what else uploads contain."""

import io
import struct

import av
import numpy as np
import pytest

from components.contract import AUDIO_FRAMES, AUDIO_SEGMENTS
from components.media import audio
from components.media.audio import WHOLE_S, decode_audio, sample_segments, segment_starts_s
from components.media.errors import DecodeFailed, NoStream, TooShort
from components.media.extract import extract
from components.media.spectrogram import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, log_mel, num_frames

COMPRESSED = [  # container, codec, rate
    ("mp3", "libmp3lame", 44_100),
    ("ogg", "libvorbis", 44_100),
    ("ogg", "libopus", 48_000),
    ("flac", "flac", 44_100),
    ("ipod", "aac", 44_100),
    ("adts", "aac", 44_100),
    ("ipod", "alac", 44_100),
    ("asf", "wmav2", 44_100),
    ("aiff", "pcm_s16be", 44_100),
    ("au", "pcm_mulaw", 44_100),
    ("caf", "pcm_s16le", 44_100),
    ("w64", "pcm_s24le", 44_100),
    ("matroska", "flac", 44_100),
    ("mpegts", "mp2", 44_100),
    ("ac3", "ac3", 44_100),
]


def peak_hz(waveform):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.argmax(spectrum) * SAMPLE_RATE_HZ / len(waveform)


def riff(*chunks):
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pcm(clips):
    return (clips.tone() * 32767).astype("<i2").tobytes()


def fmt(tag=1, bits=16, extra=b""):
    return struct.pack("<HHIIHH", tag, 1, 44_100, 44_100 * bits // 8, bits // 8, bits) + extra


EXTENSIBLE = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")


@pytest.mark.parametrize(
    ("codec", "tolerance"),
    [("pcm_u8", 0.02), ("pcm_s24le", 0.001), ("pcm_s32le", 0.001), ("pcm_f32le", 0.001), ("pcm_f64le", 0.001)],
)
def test_wav_of_any_sample_format_is_the_same_sound(clips, codec, tolerance):
    """C13."""
    reference = decode_audio(clips.audio(clips.tone()))
    waveform = decode_audio(clips.audio(clips.tone(), codec=codec))
    assert len(waveform) == len(reference) == 2 * SAMPLE_RATE_HZ
    assert np.abs(waveform - reference).max() < tolerance
    assert peak_hz(waveform) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    "layout",
    [
        lambda data: riff((b"JUNK", bytes(28)), (b"fmt ", fmt()), (b"data", data)),
        lambda data: riff(
            (b"bext", bytes(602)), (b"fmt ", fmt()), (b"LIST", b"INFOISFT\x04\0\0\0abc\0"), (b"data", data)
        ),
        lambda data: riff((b"fmt ", fmt(tag=0xFFFE, extra=EXTENSIBLE)), (b"data", data)),
        lambda data: riff((b"fmt ", fmt(extra=b"\0\0")), (b"fact", bytes(4)), (b"data", data), (b"id3 ", bytes(64))),
        lambda data: riff((b"fmt ", fmt())) + b"data" + struct.pack("<I", 0xFFFFFFFF) + data,  # recorded to a pipe
        lambda data: riff((b"fmt ", fmt())) + b"data" + struct.pack("<I", 0) + data,
        lambda data: b"RIFF\0\0\0\0" + riff((b"fmt ", fmt()), (b"data", data))[8:],
    ],
    ids=["junk_first", "broadcast", "extensible", "fact_and_id3", "streamed_ff", "streamed_0", "riff_size_0"],
)
def test_wav_headers_of_all_kinds(clips, layout):
    """C13."""
    waveform = decode_audio(layout(pcm(clips)))
    reference = decode_audio(clips.audio(clips.tone()))
    np.testing.assert_allclose(waveform[: len(reference)], reference, atol=1e-3)
    assert abs(len(waveform) - len(reference)) < 0.02 * SAMPLE_RATE_HZ


def test_a_rate_beyond_all_sound_is_named(clips):
    """A damaged header: a resampler for 45 MHz would cost seconds and hundreds of megabytes (found by fuzzing)."""
    rate_hz = 44_827_648
    header = struct.pack("<HHIIHH", 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    with pytest.raises(DecodeFailed, match="44827648 Hz"):
        sample_segments(riff((b"fmt ", header), (b"data", pcm(clips))))


@pytest.mark.parametrize(("container", "codec", "rate"), COMPRESSED)
def test_every_common_format_decodes(clips, container, codec, rate):
    """C14, and all others: 2 s stay 2 s (but for the encoder's padding) and 440 Hz stay 440 Hz."""
    data = clips.audio(clips.tone(rate=rate), rate=rate, container=container, codec=codec)
    segments = sample_segments(data)
    assert segments.duration_s == pytest.approx(2.03, abs=0.04)
    assert peak_hz(segments.waveforms[0, : segments.num_samples[0]]) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [8_000, 11_127, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_any_sample_rate_is_resampled(clips, rate, layout):
    """C15."""
    waveform = decode_audio(clips.audio(clips.tone(rate=rate), rate=rate, layout=layout))
    assert len(waveform) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=0.02 * SAMPLE_RATE_HZ)
    reference = decode_audio(clips.audio(clips.tone()))
    middle = slice(SAMPLE_RATE_HZ // 2, 3 * SAMPLE_RATE_HZ // 2)
    assert np.argmax(log_mel(waveform[middle]).mean(0)) == np.argmax(log_mel(reference[middle]).mean(0))
    assert np.abs(waveform[middle]).max() == pytest.approx(0.5, abs=0.01), "the level survives the downmix"


def test_short_clips_are_padded_and_say_so_or_are_too_short(clips):
    """C16."""
    for samples in (1, 441):
        with pytest.raises(TooShort):
            sample_segments(clips.audio(clips.tone()[:samples]))
    short = extract(clips.audio(clips.tone(0.1)))
    assert short.audio_num_frames.tolist() == [num_frames(1600), 0, 0] == [8, 0, 0]
    assert short.audio_log_mel.shape == (AUDIO_SEGMENTS, AUDIO_FRAMES, 64)
    assert not short.audio_log_mel[0, 8:].any(), "padding is the floor"
    five = extract(clips.audio(clips.tone(5.0)))
    assert five.audio_num_frames.tolist() == [300, num_frames(5 * SAMPLE_RATE_HZ) - 300, 0]


def test_consecutive_segments_are_the_frames_of_the_whole(clips):
    """A 7 s clip: its three segments, put together, are the log-mel of the whole clip."""
    rng = np.random.default_rng(0)
    data = clips.audio(rng.normal(0, 0.1, 7 * 44_100).astype(np.float32))
    segments = sample_segments(data)
    whole = log_mel(decode_audio(data))
    together = np.concatenate(
        [log_mel(w)[: min(num_frames(n), 300)] for w, n in zip(segments.waveforms, segments.num_samples)]
    )
    np.testing.assert_allclose(together, whole, atol=1e-4)


def test_silence_is_the_floor(clips):
    """C17."""
    arrays = extract(clips.audio(np.zeros(88_200, np.float32)))
    assert arrays.has_audio
    assert not arrays.audio_log_mel.any()
    assert np.isfinite(log_mel(np.zeros(SEGMENT_SAMPLES, np.float32))).all()


def test_float_files_may_hold_anything(clips):
    """NaN, infinities and samples far beyond full scale in a float WAV give finite samples within full scale."""
    samples = clips.tone()
    samples[1000:1010] = np.nan
    samples[2000:2010] = np.inf
    samples[3000:3010] = -1e30
    waveform = decode_audio(clips.audio(samples, codec="pcm_f32le"))
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() <= 1.0
    assert peak_hz(waveform[8000:]) == pytest.approx(440, abs=1)


def test_channels_of_opposite_sign_do_not_cancel(clips):
    """A listener hears both; their sum is silence."""
    tone = clips.tone()
    waveform = decode_audio(clips.audio(np.stack([tone, -tone]), layout="stereo"))
    assert np.abs(waveform[4000:-4000]).max() == pytest.approx(0.5, abs=0.01)
    half = decode_audio(clips.audio(np.stack([tone, np.zeros_like(tone)]), layout="stereo"))
    assert np.abs(half[4000:-4000]).max() == pytest.approx(0.25, abs=0.01), "and an ordinary downmix is the mean"


def sweep(rate, duration_s):
    """A tone whose frequency tells the time: 200 Hz + 10 Hz a second."""
    time_s = np.arange(round(duration_s * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * time_s + 5 * time_s**2))).astype(np.float32)


@pytest.mark.parametrize(
    ("container", "codec", "rate", "options", "stream_options"),
    [
        ("wav", "pcm_s16le", 16_000, None, None),
        ("flac", "flac", 16_000, None, None),
        ("ogg", "libvorbis", 16_000, None, None),
        ("ogg", "libopus", 16_000, None, None),
        ("ipod", "aac", 16_000, None, None),
        ("mp3", "libmp3lame", 16_000, None, {"q": "4"}),
        ("mp3", "libmp3lame", 16_000, {"write_xing": "0"}, None),
        ("adts", "aac", 16_000, None, None),
        ("asf", "wmav2", 16_000, None, None),
    ],
)
def test_long_tracks_are_sought_to_the_right_place(clips, container, codec, rate, options, stream_options):
    """Each segment of a 45 s sweep sounds as the sweep does at that place; the length is right (C21)."""
    data = clips.audio(
        sweep(rate, 45.0), rate=rate, container=container, codec=codec, options=options, stream_options=stream_options
    )
    segments = sample_segments(data)
    assert segments.duration_s == pytest.approx(45.0, abs=0.15)
    assert segments.num_samples.tolist() == [SEGMENT_SAMPLES] * AUDIO_SEGMENTS
    np.testing.assert_allclose(segments.starts_s, segment_starts_s(segments.duration_s), atol=1e-3)
    for start_s, waveform in zip(segments.starts_s, segments.waveforms):
        begin = waveform[:1600]  # 0.1 s: the sweep moves 1 Hz in it
        assert peak_hz(np.pad(begin, (0, 62_400))) == pytest.approx(200 + 10 * (start_s + 0.05), abs=3), "within 0.3 s"


def test_vbr_mp3_without_a_header_has_its_true_length(clips):
    """C21: half silence, so that the first bit rate says nothing about the rest."""
    samples = np.concatenate(
        [np.zeros(30 * 16_000, np.float32), np.random.default_rng(0).normal(0, 0.2, 30 * 16_000).astype(np.float32)]
    )
    data = clips.audio(
        samples,
        rate=16_000,
        container="mp3",
        codec="libmp3lame",
        options={"write_xing": "0"},
        stream_options={"q": "2"},
    )
    segments = sample_segments(data)
    assert segments.duration_s == pytest.approx(60.0, abs=0.15)
    levels = np.abs(segments.waveforms).max(axis=1)
    assert levels[0] < 1e-3 < 0.1 < levels[2]


def test_a_header_that_claims_too_much_is_found_out(clips):
    """C21: a file cut off in transfer. Ogg has no length in its header; FLAC and WAV state one that is wrong now."""
    for container, codec in (("flac", "flac"), ("wav", "pcm_s16le"), ("matroska", "pcm_s16le")):
        data = clips.audio(
            np.random.default_rng(0).normal(0, 0.2, 60 * 8_000).astype(np.float32),
            rate=8_000,
            container=container,
            codec=codec,
        )
        segments = sample_segments(data[: len(data) // 2])
        assert segments.duration_s == pytest.approx(30.0, abs=1.0), container
        assert segments.num_samples.min() == SEGMENT_SAMPLES


def test_the_cost_follows_the_segments_and_not_the_length(clips, monkeypatch):
    """Ten times the length: as many decoded frames."""
    decoded = []
    original = audio.frames
    monkeypatch.setattr(audio, "frames", lambda *args: (decoded.append(1) or frame for frame in original(*args)))
    counts = {}
    for seconds in (60, 600):
        decoded.clear()
        sample_segments(clips.audio(np.zeros(seconds * 8_000, np.float32), rate=8_000, container="flac", codec="flac"))
        counts[seconds] = len(decoded)
    assert 0 < counts[600] <= 1.5 * counts[60]


def test_names_play_no_part(clips, tmp_path):
    """C24: awkward names, wrong endings."""
    data = clips.audio(clips.tone(), container="mp3", codec="libmp3lame")
    expected = extract(data).audio_log_mel
    names = [
        "Part 1: Intro.mp3",
        "a b  c.mp3",
        "-i.mp3",
        "100%20.mp3",
        'it\'s "x".mp3',
        "\U0001f3b5 é.mp3",
        "concat:a|b",
        "file:x",
        "clip.jpg",
        "a?b#c&d;e.wav",
        "x.m3u8",
    ]
    for name in names:
        path = tmp_path / name
        path.write_bytes(data)
        np.testing.assert_array_equal(extract(str(path)).audio_log_mel, expected, err_msg=name)


def test_cover_art_is_not_a_video(clips):
    """An MP3 with a picture in its tag has audio only."""
    cover = clips.video(clips.moving(1), container="image2pipe", codec="png")
    picture = b"\0image/png\0\x03\0" + cover
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = len(frame)
    header = b"ID3\x03\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    data = (
        header + frame + clips.audio(clips.tone(), container="mp3", codec="libmp3lame", options={"id3v2_version": "0"})
    )
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video, "the picture is seen by the container"
    arrays = extract(data)
    assert arrays.has_audio
    assert not arrays.has_video


def test_a_video_has_no_audio_segments_where_it_has_no_sound(clips):
    with pytest.raises(NoStream):
        sample_segments(clips.video(clips.moving(10)))


def test_whole_limit_is_consistent():
    assert WHOLE_S > AUDIO_SEGMENTS * SEGMENT_SAMPLES / SAMPLE_RATE_HZ, (
        "a long track has room for its segments side by side"
    )
