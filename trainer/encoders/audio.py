"""Log-mel segments -> one token: statistics over time lead a Transformer over patches.

B items, S segments, F frames of 10 ms, M mel bins, P patches, W width, L lags.
"""

from __future__ import annotations

import keras_nlp
import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, LOG_MEL_CEILING, LOG_MEL_FLOOR
from trainer.config import EncoderConfig
from trainer.encoders.blocks import Standardise, Summary, keep_some, masked_mean
from trainer.keras import tf

FRAME_S = 0.01
LAGS = np.unique(np.round(np.geomspace(8, 200, 40)).astype(int))  # frames: beats from 80 ms to 2 s apart, evenly in pitch of tempo
_BEAT = (LAGS >= 20) & (LAGS <= 120)  # 0.2 to 1.2 s, where people tap along
_FFT = 1024  # at least twice AUDIO_FRAMES, so that the correlation does not wrap around


class AudioEncoder(tf.keras.layers.Layer):
    """`audio_log_mel` uint8 [B, S, F, M], `audio_num_frames` int64 [B, S] -> [B, W].

    Statistics pooling over time as in x-vectors (Snyder et al., 2018), patches as in the Audio Spectrogram Transformer (Gong et al., 2021).
    `audio_statistics` float [B, E], where it is given, stands in for its calculation.
    """

    inputs = ("audio_log_mel", "audio_num_frames")

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.patch_frames, self.patch_mels = config.audio_patch_frames, config.audio_patch_mels
        if AUDIO_FRAMES % self.patch_frames or AUDIO_MELS % self.patch_mels:
            raise ValueError(
                f"audio patches: got {self.patch_frames} frames x {self.patch_mels} mels, expected divisors of {AUDIO_FRAMES}, {AUDIO_MELS}"
            )
        self.keep_tokens = config.keep_tokens
        self.standardise = Standardise()
        self.standardise_mels = Standardise()
        self.project_statistics = tf.keras.layers.Dense(config.width)
        self.project_patches = tf.keras.layers.Dense(config.width)
        self.positions = keras_nlp.layers.PositionEmbedding(AUDIO_FRAMES // self.patch_frames * (AUDIO_MELS // self.patch_mels))
        self.summary = Summary(config)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.has_blocks = config.layers > 0

    def call(self, features, training=None):
        statistics = features.get("audio_statistics")
        if statistics is None:
            statistics = audio_statistics(features["audio_log_mel"], features["audio_num_frames"])
        leading = self.project_statistics(self.dropout(self.standardise(statistics), training=training))
        if not self.has_blocks:
            return leading
        patches, mask = self.patches(features)
        patches, mask = keep_some(patches, mask, self.keep_tokens, training)
        return self.summary(leading, patches, mask, training=training)

    def patches(self, features):
        """Patch tokens [B, P, W] and their mask [B, P]."""
        valid = _valid(features["audio_num_frames"])  # [B, S, F, 1]
        mels = self.standardise_mels(_log_mel(features["audio_log_mel"])) * valid
        times, bands = AUDIO_FRAMES // self.patch_frames, AUDIO_MELS // self.patch_mels
        num_patches = AUDIO_SEGMENTS * times * bands
        mels = tf.reshape(mels, [-1, AUDIO_SEGMENTS, times, self.patch_frames, bands, self.patch_mels])
        mels = tf.reshape(tf.transpose(mels, [0, 1, 2, 4, 3, 5]), [-1, times * bands, self.patch_frames * self.patch_mels])
        tokens = self.project_patches(mels)
        tokens = tf.reshape(tokens + self.positions(tokens), [-1, num_patches, tokens.shape[-1]])
        started = valid[:, :, :: self.patch_frames, 0] > 0  # a patch counts from its first frame on
        mask = tf.reshape(tf.repeat(started, bands, axis=2), [-1, num_patches])
        return tokens, mask

    def fit(self, features: dict[str, np.ndarray]) -> None:
        """Measure the scale of statistics and mel bins on items that have audio; features as in `call`, with `audio_statistics`."""
        self.standardise.fit(features["audio_statistics"])
        valid = np.arange(AUDIO_FRAMES) < features["audio_num_frames"][..., None]
        self.standardise_mels.fit(_log_mel(features["audio_log_mel"][valid]).numpy())


def audio_statistics(log_mel, num_frames):
    """What an ear notes in passing: timbre, its changes, loudness, and how strongly the onsets repeat at each lag.

    log_mel: uint8 [B, S, F, M] on the contract's scale; num_frames: int64 [B, S]. Returns float32 [B, 3 M + L + 9], finite throughout.
    """
    mels, valid = _log_mel(log_mel), _valid(num_frames)
    mean = masked_mean(mels, valid, [1, 2])  # [B, M]
    deviation = tf.sqrt(masked_mean((mels - mean[:, None, None]) ** 2, valid, [1, 2]) + 1e-6)
    both = valid[:, :, 1:] * valid[:, :, :-1]
    change = mels[:, :, 1:] - mels[:, :, :-1]
    flux = masked_mean(tf.abs(change), both, [1, 2])  # [B, M]

    power = tf.exp(mels)
    share = power / tf.reduce_sum(power, -1, keepdims=True)  # [B, S, F, M]
    bins = tf.linspace(0.0, 1.0, AUDIO_MELS)
    centroid = tf.reduce_sum(share * bins, -1, keepdims=True)
    spread = tf.sqrt(tf.reduce_sum(share * (bins - centroid) ** 2, -1, keepdims=True))
    flatness = tf.reduce_mean(mels, -1, keepdims=True) - tf.math.log(tf.reduce_mean(power, -1, keepdims=True))
    loudness = tf.math.log(tf.reduce_mean(power, -1, keepdims=True))
    curves = tf.concat([centroid, spread, flatness, loudness], -1)  # [B, S, F, 4]
    curve_mean = masked_mean(curves, valid, [1, 2])
    curve_deviation = tf.sqrt(masked_mean((curves - curve_mean[:, None, None]) ** 2, valid, [1, 2]) + 1e-6)

    repeats = _onset_autocorrelation(tf.reduce_mean(tf.nn.relu(change), -1, keepdims=True), both)  # [B, L]
    beat = tf.boolean_mask(repeats, _BEAT, axis=1)
    tempo = tf.reduce_sum(tf.nn.softmax(12 * beat, -1) * tf.constant(np.log2(LAGS[_BEAT] * FRAME_S), tf.float32), -1, keepdims=True)
    return tf.concat([mean, deviation, flux, curve_mean, curve_deviation, repeats, tempo], -1)


def _onset_autocorrelation(onsets, valid):
    onsets = ((onsets - masked_mean(onsets, valid, [1, 2])[:, None, None]) * valid)[..., 0]  # [B, S, F - 1]
    spectrum = tf.signal.rfft(onsets, [_FFT])
    correlation = tf.reduce_sum(tf.signal.irfft(spectrum * tf.math.conj(spectrum), [_FFT]), 1)  # [B, _FFT]
    return tf.gather(correlation, LAGS, axis=1) / (correlation[:, :1] + 1e-6)


def _log_mel(values):
    return tf.cast(values, tf.float32) * ((LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255) + LOG_MEL_FLOOR


def _valid(num_frames):
    return tf.cast(tf.range(AUDIO_FRAMES, dtype=tf.int64) < tf.cast(num_frames, tf.int64)[..., None], tf.float32)[..., None]
