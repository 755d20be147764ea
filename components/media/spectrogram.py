"""What an encoder hears of a waveform: log-mel, MFCC, deltas, loudness. Pure functions of NumPy arrays.

Dimensions: N samples, F frames, M mel bins, C coefficients.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from components.contract import AUDIO_FRAMES, AUDIO_MELS, LOG_MEL_CEILING, LOG_MEL_FLOOR

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512
NUM_BINS = FFT_SAMPLES // 2 + 1
BLOCK_FRAMES = 256  # at a time: half a megabyte stays in a core's cache, which is twice as fast
MEL_LOW_HZ, MEL_HIGH_HZ = 20.0, SAMPLE_RATE_HZ / 2
SEGMENT_SAMPLES = (AUDIO_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES  # 48,240 samples hold exactly AUDIO_FRAMES windows

NUM_MFCC = 20
DELTA_REACH = 4  # frames to each side that a delta looks at
SILENCE_DB = -120.0


def num_frames(num_samples: int) -> int:
    """How many whole windows fit: 0 below WINDOW_SAMPLES."""
    return 0 if num_samples < WINDOW_SAMPLES else 1 + (num_samples - WINDOW_SAMPLES) // HOP_SAMPLES


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Log-mel magnitudes of mono clips (HTK mel scale, periodic Hann window, no padding at the ends).

    waveform: float32 [..., N] in [-1, 1] at SAMPLE_RATE_HZ, N >= WINDOW_SAMPLES.
    Returns float32 [..., F, AUDIO_MELS], natural logarithm of the magnitude, floored at LOG_MEL_FLOOR.
    Source: S. Young et al., The HTK Book, 5.4 (filterbank analysis).
    """
    if waveform.ndim > 1:
        return np.stack([log_mel(clip) for clip in waveform])
    windows = sliding_window_view(waveform, WINDOW_SAMPLES)[::HOP_SAMPLES]  # [F, window]
    mels = np.empty((len(windows), AUDIO_MELS), np.float32)
    padded = np.zeros((min(len(windows), BLOCK_FRAMES), FFT_SAMPLES), np.float32)
    for start in range(0, len(windows), BLOCK_FRAMES):
        block = windows[start : start + BLOCK_FRAMES]
        np.multiply(block, _hann(), out=padded[: len(block), :WINDOW_SAMPLES])
        parts = scipy.fft.rfft(padded[: len(block)]).view(np.float32)  # [F, 2 * bins]: real and imaginary, in turns
        parts *= parts
        mels[start : start + len(block)] = np.sqrt(parts[:, ::2] + parts[:, 1::2]) @ mel_weights()
    return np.log(np.maximum(mels, np.float32(np.exp(LOG_MEL_FLOOR))))


@functools.cache
def mel_weights() -> np.ndarray:
    """Triangular filters, evenly spaced and linear on the HTK mel scale, 1 at their peak: float32 [bins,
    AUDIO_MELS]."""
    edges = np.linspace(_mel(MEL_LOW_HZ), _mel(MEL_HIGH_HZ), AUDIO_MELS + 2)
    bins = _mel(np.arange(NUM_BINS) * SAMPLE_RATE_HZ / FFT_SAMPLES)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of a waveform is not heard
    return weights.astype(np.float32)


def quantise(values: np.ndarray) -> np.ndarray:
    """Log-mel as stored: uint8, LOG_MEL_FLOOR is 0 and LOG_MEL_CEILING is 255, linear between, clipped outside."""
    scaled = (values - LOG_MEL_FLOOR) * (255.0 / (LOG_MEL_CEILING - LOG_MEL_FLOOR))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def dequantise(stored: np.ndarray) -> np.ndarray:
    """The inverse of `quantise`, to half a step (0.03): float32, natural logarithm."""
    return stored.astype(np.float32) * np.float32((LOG_MEL_CEILING - LOG_MEL_FLOOR) / 255.0) + np.float32(LOG_MEL_FLOOR)


def mfcc(log_mels: np.ndarray, num_coefficients: int = NUM_MFCC) -> np.ndarray:
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of log-mel frames.

    log_mels: float32 [..., F, M]. Returns float32 [..., F, num_coefficients].
    Source: S. Davis and P. Mermelstein, IEEE Trans. ASSP 28(4), 1980.
    """
    return scipy.fft.dct(log_mels, type=2, axis=-1, norm="ortho")[..., :num_coefficients]


def delta(features: np.ndarray) -> np.ndarray:
    """The slope of each feature over time: a line fitted to 2 * DELTA_REACH + 1 frames, the ends repeated outwards.

    features: float32 [..., F, C]. Returns float32 [..., F, C], per frame.
    Source: S. Young et al., The HTK Book, 5.9 (delta coefficients).
    """
    total = features.shape[-2]
    spread = [(0, 0)] * (features.ndim - 2) + [(DELTA_REACH, DELTA_REACH), (0, 0)]
    padded = np.pad(features, spread, mode="edge")

    def shifted(frames: int) -> np.ndarray:
        return padded[..., DELTA_REACH + frames : DELTA_REACH + frames + total, :]

    reach = range(1, DELTA_REACH + 1)
    slope = sum(n * (shifted(n) - shifted(-n)) for n in reach) / (2 * sum(n * n for n in reach))
    return np.asarray(slope, np.float32)


def loudness_db(waveform: np.ndarray) -> np.ndarray:
    """The level of each window, SILENCE_DB at least: float32 [..., N] -> float32 [..., F], dB of the root mean square
    to full scale."""
    windows = sliding_window_view(waveform, WINDOW_SAMPLES, axis=-1)[..., ::HOP_SAMPLES, :]
    power = np.mean(np.square(windows, dtype=np.float32), axis=-1)
    return np.maximum(10.0 * np.log10(np.maximum(power, np.float32(1e-30))), np.float32(SILENCE_DB))


def _mel(frequency_hz):
    return 1127.0 * np.log1p(np.asarray(frequency_hz, np.float64) / 700.0)


@functools.cache
def _hann() -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)).astype(np.float32)
