"""The audio encoder: log-mel spectrograms -> one token, by statistics over time and a Transformer over patches.

B items, S segments, F frames of 10 ms, M mel bins, P patches, W width of a token, E statistics.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, LOG_MEL_CEILING, LOG_MEL_FLOOR
from trainer.config.encoder import EncoderConfig
from trainer.encoders.augment import spec_augment
from trainer.encoders.blocks import CLSTransformer, Standardise, keep_some, masked_mean, near_zero
from trainer.encoders.modality import ContentEncoder
from trainer.encoders.tdnn import TimeDelays
from trainer.keras_nlp import keras_nlp, tf

FRAME_S = 0.01
LAGS = np.unique(np.round(np.geomspace(8, 200, 40)).astype(int))  # frames: beats from 80 ms to 2 s apart, log-spaced
_BEAT = (LAGS >= 20) & (LAGS <= 120)  # 0.2 to 1.2 s, where people tap along
_LEVELS = 256  # of a stored log-mel energy
_ITEMS_AT_ONCE = 256  # whose log-mel is counted at once
_FFT = 1024  # at least twice AUDIO_FRAMES, so that the correlation does not wrap around


class AudioEncoder(ContentEncoder):
    """Encodes `audio_log_mel` uint8 [B, S, F, M] with `audio_num_frames` int64 [B, S] as a token, float [B, W].

    The token of statistics pooled over time leads a Transformer over patches (Gong et al., Audio Spectrogram
    Transformer, 2021). Where there are Transformer blocks, the statistics are also those of a time-delay network's
    outputs (Snyder et al., X-vectors, 2018).
    `audio_statistics` float [B, E] is not computed again where the features hold it.
    """

    inputs = ("audio_log_mel", "audio_num_frames")
    statistics = "audio_statistics"

    def __init__(self, config: EncoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.patch_frames, self.patch_mels = config.audio_patch_frames, config.audio_patch_mels
        if AUDIO_FRAMES % self.patch_frames or AUDIO_MELS % self.patch_mels:
            raise ValueError(
                f"audio patches: got {self.patch_frames} frames x {self.patch_mels} mels, expected divisors of "
                f"{AUDIO_FRAMES}, {AUDIO_MELS}"
            )
        self.patch_size = self.patch_frames * self.patch_mels
        self.keep_tokens = config.keep_tokens
        self.standardise = Standardise()
        self.standardise_mels = Standardise()
        self.project_statistics = tf.keras.layers.Dense(config.width)
        self.project_patches = tf.keras.layers.Dense(config.width)
        self.positions = keras_nlp.layers.PositionEmbedding(
            AUDIO_FRAMES // self.patch_frames * (AUDIO_MELS // self.patch_mels)
        )
        self.transformer = CLSTransformer(config)
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
        patches, mask = self._split(frames, valid)
        tokens, mask = keep_some(self.place(self.project_patches(patches)), mask, self.keep_tokens, training)
        return self.transformer(leading, tokens, mask, training=training)

    def measure(self, features):
        return audio_statistics(features["audio_log_mel"], features["audio_num_frames"])

    def leading(self, features, training=None):
        """The statistics as a token: float [B, W]."""
        statistics = features.get("audio_statistics")
        if statistics is None:
            statistics = self.measure(features)
        return self.project_statistics(self.dropout(self.standardise(statistics), training=training))

    def patches(self, features, training=None):
        """Standardised log-mel of each patch, float [B, P, patch_size], and which of them are there, bool [B, P]."""
        return self._split(*self.frames(features, training=training))

    def frames(self, features, training=None):
        """Standardised log-mel and which frames are there; in training masked at random.

        Returns float [B, S, F, M] and float [B, S, F, 1].
        """
        mels = self.standardise_mels(dequantised(features["audio_log_mel"]))
        if training and any(self.masks):
            mels = spec_augment(mels, *self.masks)
        return mels, frame_mask(features["audio_num_frames"])

    def _split(self, mels, valid):
        times, bands = AUDIO_FRAMES // self.patch_frames, AUDIO_MELS // self.patch_mels
        patches = tf.reshape(mels * valid, [-1, AUDIO_SEGMENTS, times, self.patch_frames, bands, self.patch_mels])
        patches = tf.transpose(patches, [0, 1, 2, 4, 3, 5])
        num_patches = AUDIO_SEGMENTS * times * bands
        started = valid[:, :, :: self.patch_frames, 0] > 0  # a patch counts from its first frame on
        mask = tf.reshape(tf.repeat(started, bands, axis=2), [-1, num_patches])
        return tf.reshape(patches, [-1, num_patches, self.patch_size]), mask

    def place(self, tokens):
        """Adds to each token the embedding of its patch's position within the segment: float [B, P, W]."""
        segments = tf.reshape(tokens, [-1, tokens.shape[1] // AUDIO_SEGMENTS, tokens.shape[-1]])
        return tf.reshape(segments + self.positions(segments), [-1, *tokens.shape[1:]])

    def fit(self, features: Mapping[str, np.ndarray]) -> None:
        """Measures the scale of statistics and mel bins on items that have audio; features with the statistics."""
        self.standardise.fit(features["audio_statistics"])
        log_mel, num_frames = features["audio_log_mel"], features["audio_num_frames"]
        counts = np.zeros((AUDIO_MELS, _LEVELS), np.int64)
        for start in range(0, len(num_frames), _ITEMS_AT_ONCE):
            part = slice(start, start + _ITEMS_AT_ONCE)
            frames = log_mel[part][np.arange(AUDIO_FRAMES) < num_frames[part][..., None]]  # [frames, M]
            counts += np.stack([np.bincount(values, minlength=_LEVELS) for values in frames.T])
        self.standardise_mels.fit_levels(dequantised(np.arange(_LEVELS, dtype=np.uint8)).numpy(), counts)


@tf.function(reduce_retracing=True, autograph=False)  # one trace for all models and signatures of a process
def audio_statistics(log_mel, num_frames):
    """Summary statistics of spectrograms: timbre, its changes, loudness, and the autocorrelation of the onsets at each
    lag.

    log_mel: uint8 [B, S, F, M] on the contract's scale.
    num_frames: int64 [B, S], frames that are no padding.
    Returns float32 [B, E], finite throughout.
    """
    mels, valid = dequantised(log_mel), frame_mask(num_frames)
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
    """The shape of the spectrum whatever its level: cepstrum, centroid and roll-off, slope, peaks and valleys.

    Averaged over time, and weighted by loudness, since a fading note has another colour than a struck one.
    Returns a list of float [B, E_m].
    Sources: Davis & Mermelstein, 1980 (cepstrum); Peeters, 2004 (spectral shape); Jiang et al., 2002 (spectral
    contrast).
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
_LOG_HZ = np.log(700 * np.expm1(_MEL_STEPS * np.log1p(8000 / 700)))  # of the bins' centres, evenly spaced in mel
_LOG_HZ = (_LOG_HZ - _LOG_HZ.mean()).astype(np.float32)


def _onset_autocorrelation(onsets, valid):
    onsets = ((onsets - masked_mean(onsets, valid, [1, 2])[:, None, None]) * valid)[..., 0]  # [B, S, F - 1]
    spectrum = tf.signal.rfft(onsets, [_FFT])
    correlation = tf.reduce_sum(tf.signal.irfft(spectrum * tf.math.conj(spectrum), [_FFT]), 1)  # [B, _FFT]
    return tf.gather(correlation, LAGS, axis=1) / (correlation[:, :1] + 1e-6)


def dequantised(values):
    """The log-mel energies behind their stored form, float32 in nats. values: uint8 of any shape."""
    return tf.cast(values, tf.float32) * ((LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255) + LOG_MEL_FLOOR


def frame_mask(num_frames):
    """1 for each frame that is there, else 0: float32 [B, S, F, 1]. num_frames: int64 [B, S]."""
    is_frame = tf.range(AUDIO_FRAMES, dtype=tf.int64) < tf.cast(num_frames, tf.int64)[..., None]
    return tf.cast(is_frame, tf.float32)[..., None]
