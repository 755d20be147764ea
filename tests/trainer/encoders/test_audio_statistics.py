"""What is measured on stored frames agrees with what the decoder's features say of them."""

import tracemalloc

import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS
from components.media.spectrogram import dequantise, mfcc
from trainer.encoders.audio import AudioEncoder, audio_statistics, dequantised
from trainer.encoders.blocks import Standardise
from trainer.keras import tf


def test_the_cepstrum_is_the_mfcc_of_the_frames_that_are_there():
    """Means of coefficients 1 to 13 stand after those of the mel bins, their deviations and changes, and of four
    curves.
    """
    stored = np.random.default_rng(0).integers(0, 256, (1, AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS)).astype(np.uint8)
    lengths = np.array([AUDIO_FRAMES, 7, 0])
    statistics = audio_statistics(tf.constant(stored), tf.constant(lengths[None])).numpy()[0]
    frames = np.concatenate([stored[0, segment, :length] for segment, length in enumerate(lengths)])
    expected = mfcc(dequantise(frames)).mean(0)
    at = 3 * AUDIO_MELS + 2 * 4
    np.testing.assert_allclose(statistics[at : at + 13], expected[1:14], atol=1e-3)
    np.testing.assert_allclose(statistics[:AUDIO_MELS], dequantise(frames).mean(0), atol=1e-3)


def test_mel_bins_are_measured_as_by_all_their_frames_at_once(table, tiny, monkeypatch):
    monkeypatch.setattr("trainer.encoders.audio._ITEMS_AT_ONCE", 5)
    encoder, rows = AudioEncoder(tiny.SMALL), np.arange(len(table))
    encoder.fit({**table.view(rows, encoder.inputs), "audio_statistics": np.zeros((len(rows), 3), np.float32)})
    valid = np.arange(AUDIO_FRAMES) < table.arrays["audio_num_frames"][..., None]
    frames = dequantised(table.arrays["audio_log_mel"][valid]).numpy().astype(np.float64)
    np.testing.assert_allclose(encoder.standardise_mels.mean, frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(encoder.standardise_mels.inverse_deviation, 1 / frames.std(0), rtol=1e-5)


def test_memory_does_not_grow_with_the_items_whose_sound_is_measured(tiny):
    """2,000 items, whose log-mel alone is 115 MB."""
    one = np.random.default_rng(1).integers(0, 256, (AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS)).astype(np.uint8)
    features = {
        "audio_log_mel": np.broadcast_to(one, (2_000, *one.shape)),
        "audio_num_frames": np.full((2_000, AUDIO_SEGMENTS), AUDIO_FRAMES),
        "audio_statistics": np.zeros((2_000, 3), np.float32),
    }
    tracemalloc.start()
    try:
        AudioEncoder(tiny.SMALL).fit(features)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_levels_are_measured_exactly_however_often_they_come():
    standardise = Standardise()
    standardise.fit_levels(np.array([0.0, 1.0, 5.0]), np.array([[2**40, 2**40, 0], [0, 0, 2**41]]))
    assert standardise.mean.numpy().tolist() == [0.5, 5.0]
    assert standardise.inverse_deviation.numpy().tolist() == [2.0, 0.0], "a constant column gives 0"
