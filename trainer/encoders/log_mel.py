"""Log-mel spectrograms with the parameters of pretrained audio models. Pure NumPy.

N samples, F frames, M mel bins.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from components.media.spectrogram import SAMPLE_RATE_HZ
from components.pretrained_config import SpectrogramConfig

_LINEAR_HZ_PER_MEL = 200.0 / 3.0  # Slaney's scale: linear below 1 kHz, logarithmic above
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def log_mel(waveform: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """log10(1 + 10000 mel power) of a mono clip, periodic Hann window, the first frame centred on the first sample,
    ends mirrored.

    waveform: float32 [N] at 16 kHz, N > fft_samples / 2. Returns float32 [F, M], F = 1 + N // hop_samples.
    Source of the scale: M. Slaney, Auditory Toolbox, 1998; of the compression: J. Pons, X. Serra, musicnn, 2019.
    """
    padded = np.pad(waveform, config.fft_samples // 2, mode="reflect")
    windows = sliding_window_view(padded, config.fft_samples)[:: config.hop_samples]
    spectrum = np.fft.rfft(windows * _hann(config.fft_samples))
    power = spectrum.real**2 + spectrum.imag**2
    return np.log10(1.0 + 10_000.0 * (power @ mel_filters(config.mels, config.fft_samples))).astype(np.float32)


@functools.cache
def mel_filters(mels: int, fft_samples: int) -> np.ndarray:
    """Triangular mel filters on Slaney's scale, each of area 1 in Hz: float64 [fft_samples / 2 + 1, M]."""
    edges_hz = _hz(np.linspace(0.0, _mel(SAMPLE_RATE_HZ / 2), mels + 2))
    bins_hz = np.arange(fft_samples // 2 + 1)[:, None] * SAMPLE_RATE_HZ / fft_samples
    low, peak, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.maximum(0.0, np.minimum((bins_hz - low) / (peak - low), (high - bins_hz) / (high - peak)))
    return triangles * 2.0 / (high - low)


def _mel(frequency_hz: float) -> float:
    if frequency_hz < _BREAK_HZ:
        return frequency_hz / _LINEAR_HZ_PER_MEL
    return _BREAK_MEL + np.log(frequency_hz / _BREAK_HZ) / _LOG_STEP


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


@functools.cache
def _hann(length: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
