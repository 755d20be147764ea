"""Regularisation of the content encoders in training: SpecAugment and a penalty on the weights.

N spectrograms, F frames, M mel bins.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.keras import tf


def spec_augment(mels, frequency_mask_mels: int, time_mask_frames: int):
    """Masks a random band of mel bins and a random stretch of frames of each spectrogram by 0, the mean.

    mels: float [..., F, M], standardised.
    frequency_mask_mels, time_mask_frames: a mask is narrower than this, which is at most M or F; 0 masks nothing.
    Returns float [..., F, M].
    Source: Park et al., SpecAugment, 2019; the masks are those of tensorflow-io.
    """
    import tensorflow_io as tfio  # noqa: PLC0415  (seconds to import, and needed where the masks are on only)

    def masked(spectrogram):
        if frequency_mask_mels:
            spectrogram = tfio.audio.freq_mask(spectrogram, frequency_mask_mels)
        return tfio.audio.time_mask(spectrogram, time_mask_frames) if time_mask_frames else spectrogram

    shape = tf.shape(mels)
    spectrograms = tf.reshape(mels, tf.concat([[-1], shape[-2:]], 0))
    return tf.reshape(tf.map_fn(masked, spectrograms), shape)


def l2_penalty(weights: Sequence[tf.Variable], strength: float):
    """L2 penalty: the sum of squares of the weight matrices times `strength`; biases and other vectors are free."""
    return strength * tf.add_n([tf.reduce_sum(weight**2) for weight in weights if weight.shape.rank > 1])
