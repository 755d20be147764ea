"""Log-mel segments -> one token: statistics over time, those of a time-delay network beside them, lead a Transformer over patches.

B items, S segments, F frames of 10 ms, M mel bins, P patches, W width, L lags.
"""

from __future__ import annotations

import keras_nlp
import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, LOG_MEL_CEILING, LOG_MEL_FLOOR
from trainer.config.retrieval import EncoderConfig
from trainer.content.augment import spec_augment
from trainer.encoders.blocks import Standardise, Summary, keep_some, masked_mean, near_zero
from trainer.encoders.tdnn import TimeDelays
from trainer.keras import tf

FRAME_S = 0.01
LAGS = np.unique(
    np.round(np.geomspace(8, 200, 40)).astype(int)
)  # frames: beats from 80 ms to 2 s apart, evenly in pitch of tempo
_BEAT = (LAGS >= 20) & (LAGS <= 120)  # 0.2 to 1.2 s, where people tap along
_FFT = 1024  # at least twice AUDIO_FRAMES, so that the correlation does not wrap around


class AudioEncoder(tf.keras.layers.Layer):
    """`audio_log_mel` uint8 [B, S, F, M], `audio_num_frames` int64 [B, S] -> [B, W].

    Statistics pooling over time, of what is measured and, where there are Transformer blocks, of a time-delay network's outputs as in
    x-vectors (Snyder et al., 2018); patches as in the Audio Spectrogram Transformer (Gong et al., 2021).
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
        self.cell_size = self.patch_frames * self.patch_mels
        self.keep_tokens = config.keep_tokens
        self.standardise = Standardise()
        self.standardise_mels = Standardise()
        self.project_statistics = tf.keras.layers.Dense(config.width)
        self.project_patches = tf.keras.layers.Dense(config.width)
        self.positions = keras_nlp.layers.PositionEmbedding(
            AUDIO_FRAMES // self.patch_frames * (AUDIO_MELS // self.patch_mels)
        )
        self.summary = Summary(config)
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.has_blocks = config.layers > 0
        if self.has_blocks:
            self.delays = TimeDelays(config)
            self.normalise = tf.keras.layers.LayerNormalization()
            self.project_delays = tf.keras.layers.Dense(config.width, use_bias=False, kernel_initializer=near_zero())
        self.masks = (config.frequency_mask_mels, config.time_mask_frames)

    def call(self, features, training=None):
        leading = self.leading(features, training=training)
        if not self.has_blocks:
            return leading
        frames, valid = self.frames(features, training=training)
        leading += self.project_delays(self.normalise(self.delays(frames, valid)))
        cells, mask = self._patches(frames, valid)
        patches, mask = keep_some(self.place(self.project_patches(cells)), mask, self.keep_tokens, training)
        return self.summary(leading, patches, mask, training=training)

    def leading(self, features, training=None):
        """The statistics as a token [B, W]."""
        statistics = features.get("audio_statistics")
        if statistics is None:
            statistics = audio_statistics(features["audio_log_mel"], features["audio_num_frames"])
        return self.project_statistics(self.dropout(self.standardise(statistics), training=training))

    def cells(self, features, training=None):
        """Standardised log-mel of each patch [B, P, frames * mels], and which patches there are [B, P]. Masked at random in training."""
        return self._patches(*self.frames(features, training=training))

    def frames(self, features, training=None):
        """Standardised log-mel of each frame [B, S, F, M], masked at random in training, and which frames there are [B, S, F, 1]."""
        mels = self.standardise_mels(_log_mel(features["audio_log_mel"]))
        if training and any(self.masks):
            mels = spec_augment(mels, *self.masks)
        return mels, _valid(features["audio_num_frames"])

    def _patches(self, mels, valid):
        times, bands = AUDIO_FRAMES // self.patch_frames, AUDIO_MELS // self.patch_mels
        cells = tf.reshape(mels * valid, [-1, AUDIO_SEGMENTS, times, self.patch_frames, bands, self.patch_mels])
        cells = tf.transpose(cells, [0, 1, 2, 4, 3, 5])
        num_patches = AUDIO_SEGMENTS * times * bands
        started = valid[:, :, :: self.patch_frames, 0] > 0  # a patch counts from its first frame on
        mask = tf.reshape(tf.repeat(started, bands, axis=2), [-1, num_patches])
        return tf.reshape(cells, [-1, num_patches, self.cell_size]), mask

    def place(self, tokens):
        """Tokens [B, P, W] with the position of their patch within its segment."""
        segments = tf.reshape(tokens, [-1, tokens.shape[1] // AUDIO_SEGMENTS, tokens.shape[-1]])
        return tf.reshape(segments + self.positions(segments), [-1, *tokens.shape[1:]])

    def fit(self, features: dict[str, np.ndarray]) -> None:
        """Measure the scale of statistics and mel bins on items that have audio; features as in `call`, with `audio_statistics`."""
        self.standardise.fit(features["audio_statistics"])
        valid = np.arange(AUDIO_FRAMES) < features["audio_num_frames"][..., None]
        self.standardise_mels.fit(_log_mel(features["audio_log_mel"][valid]).numpy())


def audio_statistics(log_mel, num_frames):
    """What an ear notes in passing: timbre, its changes, loudness, and how strongly the onsets repeat at each lag.

    log_mel: uint8 [B, S, F, M] on the contract's scale; num_frames: int64 [B, S]. Returns float32 [B, E], finite throughout.
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
    tempo = tf.reduce_sum(
        tf.nn.softmax(12 * beat, -1) * tf.constant(np.log2(LAGS[_BEAT] * FRAME_S), tf.float32), -1, keepdims=True
    )
    return tf.concat(
        [mean, deviation, flux, curve_mean, curve_deviation, *_timbre(mels, loudness, valid), repeats, tempo], -1
    )


CEPSTRUM = 20  # coefficients of the spectral envelope, the level among them
ROLL_OFFS = (0.25, 0.5, 0.75, 0.85, 0.95)  # shares of the energy
BANDS = (10, 10, 10, 10, 12, 12)  # mel bins each, about an octave
assert sum(BANDS) == AUDIO_MELS


def _timbre(mels, loudness, valid):
    """The shape of the spectrum whatever its level: cepstrum, where its energy lies, its slope, peaks and valleys.

    As time goes, and weighted by how loud a moment is, since a fading note has another colour than a struck one. List of [B, E].
    Sources: Davis & Mermelstein, 1980 (cepstrum); Peeters, 2004 (spectral shape); Jiang et al., 2002 (spectral contrast).
    """
    loudest = tf.reduce_max(tf.where(valid > 0, loudness, LOG_MEL_FLOOR), [1, 2], keepdims=True)
    heard = tf.exp(tf.minimum(loudness - loudest, 0.0)) * valid  # [B, S, F, 1], 1 at the loudest moment

    cepstrum = tf.matmul(mels, tf.constant(_DCT))[..., 1:]
    cepstrum_mean = masked_mean(cepstrum[..., :13], valid, [1, 2])
    cepstrum_deviation = tf.sqrt(
        masked_mean((cepstrum[..., :13] - cepstrum_mean[:, None, None]) ** 2, valid, [1, 2]) + 1e-6
    )

    power = tf.exp(2 * mels)
    share = power / tf.reduce_sum(power, -1, keepdims=True)
    bins = tf.linspace(0.0, 1.0, AUDIO_MELS)
    centroid = tf.reduce_sum(share * bins, -1, keepdims=True)
    spread = tf.sqrt(tf.reduce_sum(share * (bins - centroid) ** 2, -1, keepdims=True))
    below = tf.cumsum(share, -1)
    roll_offs = tf.stack([tf.reduce_mean(tf.cast(below < part, tf.float32), -1) for part in ROLL_OFFS], -1)
    energy = tf.concat([centroid, spread, roll_offs], -1)

    level = tf.reduce_mean(mels, -1, keepdims=True)
    slope = tf.reduce_mean((mels - level) * tf.constant(_LOG_HZ), -1, keepdims=True)
    ordered = [tf.sort(band, axis=-1) for band in tf.split(mels, BANDS, -1)]
    peaks = tf.stack([tf.reduce_mean(band[..., -2:], -1) for band in ordered], -1)
    valleys = tf.stack([tf.reduce_mean(band[..., :2], -1) for band in ordered], -1)
    top = tf.reduce_max(mels, -1, keepdims=True)
    shape = tf.concat([slope, top - level, peaks - tf.reduce_max(peaks, -1, keepdims=True), peaks - valleys], -1)
    return [
        cepstrum_mean,
        cepstrum_deviation,
        masked_mean(energy, valid, [1, 2]),
        *(_weighted_mean(curve, heard) for curve in (cepstrum, energy, shape)),
    ]


def _weighted_mean(values, weights):
    return tf.reduce_sum(values * weights, [1, 2]) / (tf.reduce_sum(weights, [1, 2]) + 1e-6)


_COSINES = np.cos(np.pi * (np.arange(AUDIO_MELS)[:, None] + 0.5) * np.arange(CEPSTRUM) / AUDIO_MELS)
_DCT = (_COSINES / np.sqrt(AUDIO_MELS / 2)).astype(np.float32)
_MEL_STEPS = (np.arange(AUDIO_MELS) + 1) / (AUDIO_MELS + 1)
_LOG_HZ = np.log(
    700 * np.expm1(_MEL_STEPS * np.log1p(8000 / 700))
)  # of the bins' centres, from their even spacing on the mel scale
_LOG_HZ = (_LOG_HZ - _LOG_HZ.mean()).astype(np.float32)


def _onset_autocorrelation(onsets, valid):
    onsets = ((onsets - masked_mean(onsets, valid, [1, 2])[:, None, None]) * valid)[..., 0]  # [B, S, F - 1]
    spectrum = tf.signal.rfft(onsets, [_FFT])
    correlation = tf.reduce_sum(tf.signal.irfft(spectrum * tf.math.conj(spectrum), [_FFT]), 1)  # [B, _FFT]
    return tf.gather(correlation, LAGS, axis=1) / (correlation[:, :1] + 1e-6)


def _log_mel(values):
    return tf.cast(values, tf.float32) * ((LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255) + LOG_MEL_FLOOR


def _valid(num_frames):
    return tf.cast(tf.range(AUDIO_FRAMES, dtype=tf.int64) < tf.cast(num_frames, tf.int64)[..., None], tf.float32)[
        ..., None
    ]
