"""The demo world's media: real files of the declared formats, whose sound and look follow the traits."""

import colorsys

import av
import numpy as np
import pytest
from scipy.signal import find_peaks

from pipeline.sources.demo import dataset
from pipeline.sources.demo.audio import synthesize
from pipeline.sources.demo.media import encode
from pipeline.sources.demo.video import FRAMES_PER_S, HEIGHT, WIDTH, render
from pipeline.sources.demo.world import DemoConfig, make_items, visit_times

RATE_HZ = 16_000
SUFFIX_TO_FORMAT = {  # extension: FFmpeg's name of the container, codecs of sound and picture
    "wav": ("wav", "pcm_s16le", None),
    "mp3": ("mp3", "mp3float", None),
    "flac": ("flac", "flac", None),
    "ogg": ("ogg", "vorbis", None),
    "m4a": ("mov,mp4,m4a,3gp,3g2,mj2", "aac", None),
    "mp4": ("mov,mp4,m4a,3gp,3g2,mj2", "aac", "h264"),
    "webm": ("matroska,webm", "vorbis", "vp8"),
}


def decode_audio(path):
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "stereo", RATE_HZ)
        pieces = [piece.to_ndarray() for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate(pieces, axis=1).mean(axis=0)


def decode_video(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sound(register=0.0, tempo=0.0, brightness=0.0, grit=-2.0):
    return synthesize(np.array([register, tempo, brightness, grit]), 6.0, RATE_HZ, np.random.default_rng(1))


def look(hue=0.0, motion=0.0, contrast=0.0, angularity=0.0):
    return render(np.array([hue, motion, contrast, angularity]), 4.0, np.random.default_rng(1))


def spectral_centroid_hz(wave):
    power = np.abs(np.fft.rfft(wave)) ** 2
    return float((power * np.fft.rfftfreq(len(wave), 1 / RATE_HZ)).sum() / power.sum())


def num_onsets(wave):
    energy = np.sqrt(np.convolve(wave**2, np.ones(160) / 160, "same"))[::80]
    rise = np.maximum(np.diff(np.log(energy + 1e-3)), 0)
    return len(find_peaks(rise, height=0.15, distance=8)[0])


@pytest.mark.parametrize("suffix", sorted(SUFFIX_TO_FORMAT))
def test_each_format_is_what_it_says_and_keeps_a_440_hz_tone(tmp_path, suffix):
    """C14: M4A decodes too."""
    container_name, audio_codec, video_codec = SUFFIX_TO_FORMAT[suffix]
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 44_100) / 44_100).astype(np.float32)
    frames = np.full((2 * FRAMES_PER_S, HEIGHT, WIDTH, 3), (200, 30, 30), np.uint8) if video_codec else None
    path = tmp_path / f"tone.{suffix}"
    encode(path, np.stack([tone, tone]), 44_100, frames)
    with av.open(str(path)) as container:
        assert container.format.name == container_name
        assert container.streams.audio[0].codec_context.name == audio_codec
        assert [stream.codec_context.name for stream in container.streams.video] == (
            [video_codec] if video_codec else []
        )
    wave = decode_audio(path)
    assert abs(len(wave) / RATE_HZ - 2.0) < 0.08
    assert abs(np.argmax(np.abs(np.fft.rfft(wave))) * RATE_HZ / len(wave) - 440) < 2
    assert abs(np.abs(wave[4000:-4000]).max() - 0.5) < 0.03
    if frames is not None:
        decoded = decode_video(path)
        assert len(decoded) == len(frames)
        assert np.abs(decoded.astype(int) - frames).mean() < 12


def test_a_video_without_sound_has_no_audio_track(tmp_path):
    """C18."""
    path = tmp_path / "silent.mp4"
    encode(path, None, 44_100, look())
    with av.open(str(path)) as container:
        assert not container.streams.audio


def test_a_brighter_item_has_a_higher_spectral_centroid():
    centroids = [spectral_centroid_hz(sound(brightness=value)) for value in (-2, -1, 0, 1, 2)]
    assert centroids == sorted(centroids)
    assert centroids[-1] > 2 * centroids[0]


def test_a_faster_item_has_more_onsets():
    onsets = [num_onsets(sound(tempo=value)) for value in (-2, -1, 0, 1, 2)]
    assert onsets == sorted(set(onsets))
    assert onsets[0] == pytest.approx(6 * 3.2 * 2 ** (-1.1), abs=2), "beats a second times seconds"


def test_register_moves_the_pitch():
    """An octave is a factor of two: the trait moves 0.6 octaves a unit."""
    low, high = (np.argmax(np.abs(np.fft.rfft(sound(register=value, brightness=-2.0)))) for value in (-1, 1))
    assert high / low == pytest.approx(2**1.2, rel=0.03)


def test_grit_is_noise():
    """Spectral flatness: 1 for white noise, near 0 for tones."""

    def flatness(wave):
        power = np.abs(np.fft.rfft(wave)) ** 2 + 1e-12
        return np.exp(np.mean(np.log(power))) / np.mean(power)

    assert flatness(sound(grit=2.0)) > 5 * flatness(sound(grit=-2.0))


@pytest.mark.parametrize("hue_trait, expected_hue", [(-2.0, 0.036), (0.0, 0.375), (2.0, 0.714)])
def test_the_hue_of_the_video_is_the_hue_of_the_trait(tmp_path, hue_trait, expected_hue):
    path = tmp_path / "hue.webm"
    encode(path, None, 44_100, look(hue=hue_trait, contrast=2.0))
    frames = decode_video(path).reshape(-1, 3) / 255
    brightest = frames[frames.max(axis=1) > 0.6]
    assert colorsys.rgb_to_hsv(*np.median(brightest, axis=0))[0] == pytest.approx(expected_hue, abs=0.05)


def test_motion_shows_between_frames_and_within_one():
    """Within a frame it is the trail: more of the picture is covered."""
    calm, busy = look(motion=-2.0, contrast=2.0), look(motion=2.0, contrast=2.0)
    within_scene = slice(0, 29)
    calm_change, busy_change = (
        np.abs(np.diff(frames[within_scene].astype(int), axis=0)).mean() for frames in (calm, busy)
    )
    assert busy_change > 3 * calm_change
    covered = [(frames.max(axis=3) > 70).mean() for frames in (calm, busy)]
    assert covered[1] > 1.2 * covered[0]


def test_contrast_and_angularity_show():
    faint, strong = look(contrast=-2.0), look(contrast=2.0)
    assert strong.max() > faint.max() + 80
    round_area, spiky_area = (
        (look(contrast=2.0, motion=-2.0, angularity=value).max(axis=3) > 120).mean() for value in (-2.0, 2.0)
    )
    assert spiky_area < 0.8 * round_area


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A tiny world with media, made twice."""
    config = DemoConfig(seed=5, num_items=14, num_people=10, num_events=100, num_days=20)
    folders = [tmp_path_factory.mktemp("media") / name for name in ("first", "second")]
    for folder in folders:
        dataset.write_demo(folder, config)
    return config, folders


def test_every_item_decodes_and_has_what_the_world_says(worlds):
    config, (folder, _) = worlds
    items = make_items(config, visit_times(config, 71))
    kinds = set()
    for row, kind in enumerate(items.media):
        kinds.add(kind)
        if kind == "none":
            assert dataset.media_name(items, row) == ""
            continue
        path = folder / dataset.media_name(items, row)
        with av.open(str(path)) as container:
            assert container.format.name == SUFFIX_TO_FORMAT[path.suffix[1:]][0]
            assert (len(container.streams.audio) > 0) == (kind in ("audio", "both"))
            assert (len(container.streams.video) > 0) == (kind in ("video", "both"))
        if kind in ("audio", "both"):
            assert abs(len(decode_audio(path)) / RATE_HZ - items.duration_s[row]) < 0.1
        if kind in ("video", "both"):
            assert len(decode_video(path)) == round(items.duration_s[row] * FRAMES_PER_S)
    assert {"audio", "video", "both"} <= kinds


def test_the_media_are_repeatable(worlds):
    _, (first, second) = worlds
    names = sorted(path.name for path in (first / "media").iterdir())
    assert names == sorted(path.name for path in (second / "media").iterdir())
    for name in names:
        assert (first / "media" / name).read_bytes() == (second / "media" / name).read_bytes(), name


def test_two_files_of_the_default_world_are_broken(tmp_path, monkeypatch):
    """C12: one is empty and one is a web page under the name of an MP3; the rest of the files are left out of this
    test."""
    monkeypatch.setattr(dataset.media, "write_item", lambda config, items, row, path: path.write_bytes(b"media"))
    dataset.write_demo(tmp_path / "world")
    broken = [
        path.read_bytes() for path in sorted((tmp_path / "world" / "media").iterdir()) if path.read_bytes() != b"media"
    ]
    assert sorted(len(content) == 0 for content in broken) == [False, True]
    assert max(broken, key=len).startswith(b"<!DOCTYPE html>")
