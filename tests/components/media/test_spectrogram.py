"""The features against independent implementations (librosa, TensorFlow) and by hand."""

import librosa
import numpy as np
import pytest
import tensorflow as tf

from components.contract import AUDIO_FRAMES, AUDIO_MELS, LOG_MEL_CEILING, LOG_MEL_FLOOR
from components.media import spectrogram
from components.media.spectrogram import (
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    SEGMENT_SAMPLES,
    WINDOW_SAMPLES,
    delta,
    dequantise,
    log_mel,
    loudness_db,
    mel_weights,
    mfcc,
    num_frames,
    quantise,
)


@pytest.fixture
def sound():
    """Two seconds of noise whose colour and level change, and a chord."""
    rng = np.random.default_rng(0)
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    noise = np.convolve(rng.normal(0, 0.1, len(time_s)), [1, 0.9, 0.5])[: len(time_s)] * (1 + np.sin(6 * time_s))
    return (noise + sum(0.2 * np.sin(2 * np.pi * hz * time_s) for hz in (220, 331, 2500))).astype(np.float32)


def test_a_segment_holds_exactly_its_frames():
    assert num_frames(SEGMENT_SAMPLES) == AUDIO_FRAMES
    assert num_frames(SEGMENT_SAMPLES - 1) == AUDIO_FRAMES - 1
    assert [num_frames(n) for n in (0, WINDOW_SAMPLES - 1, WINDOW_SAMPLES, WINDOW_SAMPLES + HOP_SAMPLES)] == [
        0,
        0,
        1,
        2,
    ]


def test_equals_tensorflow(sound):
    """tf.signal's HTK weights on tf.signal's STFT: weights to 1e-4, logarithms to 1e-5 on average (5e-3 where a band
    is almost silent)."""
    weights = tf.signal.linear_to_mel_weight_matrix(
        AUDIO_MELS, 257, SAMPLE_RATE_HZ, spectrogram.MEL_LOW_HZ, spectrogram.MEL_HIGH_HZ
    )
    np.testing.assert_allclose(mel_weights(), weights, atol=1e-4)
    magnitudes = tf.abs(tf.signal.stft(sound, WINDOW_SAMPLES, HOP_SAMPLES, 512))
    expected = tf.math.log(tf.maximum(magnitudes @ weights, np.exp(LOG_MEL_FLOOR)))
    difference = np.abs(log_mel(sound) - expected)
    assert difference.mean() < 1e-5
    assert difference.max() < 5e-3


def test_agrees_with_librosa(sound):
    """librosa's triangles are straight in Hz, HTK's in mel: 0.05 natural-log units apart on average, 0.5 in the
    narrowest bands."""
    centred = np.pad(sound, (512 - WINDOW_SAMPLES) // 2)  # librosa centres the window in the FFT frame
    magnitudes = librosa.feature.melspectrogram(
        y=centred, sr=SAMPLE_RATE_HZ, n_fft=512, win_length=WINDOW_SAMPLES, hop_length=HOP_SAMPLES, center=False,
        power=1.0, htk=True, norm=None, n_mels=AUDIO_MELS, fmin=spectrogram.MEL_LOW_HZ, fmax=spectrogram.MEL_HIGH_HZ,
    )  # fmt: skip
    difference = np.abs(log_mel(sound) - np.log(np.maximum(magnitudes.T, np.exp(LOG_MEL_FLOOR))))
    assert difference.mean() < 0.05
    assert difference.max() < 0.5


def test_a_tone_peaks_in_the_band_that_holds_it():
    for hz in (100, 440, 1000, 5000):
        tone = np.sin(2 * np.pi * hz * np.arange(8000) / SAMPLE_RATE_HZ).astype(np.float32)
        nearest_bin = round(hz * 512 / SAMPLE_RATE_HZ)
        assert np.argmax(log_mel(tone).mean(axis=0)) == np.argmax(mel_weights()[nearest_bin])


def test_full_scale_stays_under_the_ceiling_and_no_band_is_empty():
    assert (mel_weights().sum(axis=0) > 0).all()
    assert log_mel(np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)).max() < LOG_MEL_CEILING
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / SAMPLE_RATE_HZ).astype(np.float32)
    assert log_mel(tone).max() < LOG_MEL_CEILING


def test_quantisation_is_exact_to_half_a_step():
    values = np.linspace(LOG_MEL_FLOOR, LOG_MEL_CEILING, 1001, dtype=np.float32)
    step = (LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255
    assert np.abs(dequantise(quantise(values)) - values).max() <= step / 2 + 1e-5
    assert quantise(np.array([-50.0, LOG_MEL_FLOOR, LOG_MEL_CEILING, 50.0])).tolist() == [0, 0, 255, 255]
    assert (quantise(dequantise(np.arange(256, dtype=np.uint8))) == np.arange(256)).all()


def test_a_batch_equals_its_parts(sound):
    segments = np.stack([sound[:16_000], sound[16_000:]])
    np.testing.assert_allclose(log_mel(segments), [log_mel(part) for part in segments], atol=1e-5)


def test_mfcc_equals_librosa(sound):
    log_mels = log_mel(sound)
    expected = librosa.feature.mfcc(S=log_mels.T, n_mfcc=20, dct_type=2, norm="ortho").T
    np.testing.assert_allclose(mfcc(log_mels), expected, atol=1e-4)


def test_delta_equals_librosa(sound):
    coefficients = mfcc(log_mel(sound))
    for _ in range(2):  # and the deltas of deltas
        expected = librosa.feature.delta(coefficients.T, width=9, mode="nearest").T
        np.testing.assert_allclose(delta(coefficients), expected, atol=1e-3)
        coefficients = delta(coefficients)


def test_delta_of_a_ramp_is_its_slope():
    ramp = np.arange(30, dtype=np.float32)[:, None] * np.array([[0.5, -2.0]], np.float32)
    np.testing.assert_allclose(delta(ramp)[4:-4], np.tile([[0.5, -2.0]], (22, 1)), atol=1e-6)


def test_loudness(sound):
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / SAMPLE_RATE_HZ).astype(np.float32)
    np.testing.assert_allclose(loudness_db(tone), -3.01, atol=0.01)
    np.testing.assert_allclose(loudness_db(tone / 10), -23.01, atol=0.01)
    assert (loudness_db(np.zeros(1000, np.float32)) == -120).all()
    expected = librosa.feature.rms(y=sound, frame_length=WINDOW_SAMPLES, hop_length=HOP_SAMPLES, center=False)[0]
    np.testing.assert_allclose(loudness_db(sound), 20 * np.log10(expected), atol=1e-3)
