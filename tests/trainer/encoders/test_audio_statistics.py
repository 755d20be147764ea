"""What is measured on stored frames agrees with what the decoder's features say of them."""

import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS
from components.media.spectrogram import dequantise, mfcc
from trainer.encoders.audio import audio_statistics
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
