"""A time-delay neural network over spectrogram frames, with statistics pooling.

B items, S segments, F frames of 10 ms, M mel bins, W width of a token.
"""

from __future__ import annotations

from trainer.config.encoder import EncoderConfig
from trainer.encoders.blocks import masked_mean
from trainer.keras import tf

DELAYS = ((5, 1), (3, 2), (3, 3))  # frames that a convolution sees and their distance: 150 ms together


class TimeDelays(tf.keras.layers.Layer):
    """Dilated convolutions along time, then the mean and the deviation of their outputs over all frames that are there.

    Padding is 0 to every convolution, as is what lies beyond a segment's ends, so it changes nothing.
    Source: Snyder et al., X-vectors, 2018.
    """

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [
            tf.keras.layers.Conv1D(config.width, size, padding="same", dilation_rate=distance, activation="relu")
            for size, distance in DELAYS
        ]

    def call(self, frames, valid):
        """Pooled statistics: float [B, 2 W]; 0 for an item without a frame.

        frames: float [B, S, F, M].
        valid: float [B, S, F, 1], 1 from a segment's first frame to its last.
        """
        segments, segments_valid = (tf.reshape(values, [-1, *values.shape[2:]]) for values in (frames, valid))
        segments_valid = tf.cast(segments_valid, segments.dtype)
        for convolution in self.convolutions:
            segments = convolution(segments * segments_valid)
        outputs = tf.reshape(
            tf.cast(segments, tf.float32), [-1, *frames.shape[1:3], segments.shape[-1]]
        )  # [B, S, F, W]
        mean = masked_mean(outputs, valid, [1, 2])
        variance = masked_mean((outputs - mean[:, None, None]) ** 2, valid, [1, 2])
        return tf.concat([mean, tf.sqrt(variance + 1e-6) * tf.reduce_max(valid, [1, 2])], -1)
