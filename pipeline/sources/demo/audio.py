"""A few seconds of music whose sound follows the audible traits: register, tempo, brightness, grit."""

from __future__ import annotations

import numpy as np

PENTATONIC_SEMITONES = (0, 2, 4, 7, 9)
NUM_HARMONICS = 14
NOTE_DECAY_S = 0.25
ATTACK_S = 0.004


def sound_parameters(traits: np.ndarray) -> tuple[float, float, float, float]:
    """Base pitch in Hz, beats a second, harmonic roll-off (amplitude of harmonic h is h ** -roll-off), noise share in
    0..1.

    traits: float [4], about standard normal: register, tempo, brightness, grit.
    """
    register, tempo, brightness, grit = np.clip(traits, -2.5, 2.5)
    return (
        220.0 * 2.0 ** (0.6 * register),
        3.2 * 2.0 ** (0.55 * tempo),
        1.7 - 0.6 * brightness,
        float(1.0 / (1.0 + np.exp(1.0 - 1.5 * grit))),
    )


def synthesize(traits: np.ndarray, duration_s: float, sample_rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A melody of plucked notes, one a beat, each with a burst of noise.

    traits: float [4]: register, tempo, brightness, grit.
    Returns float32 [round(duration_s * sample_rate_hz)], mono, peak 0.8.
    """
    base_hz, beats_per_s, roll_off, noise_share = sound_parameters(traits)
    num_samples = round(duration_s * sample_rate_hz)
    beat_samples = round(sample_rate_hz / beats_per_s)
    note_samples = min(round(4 * NOTE_DECAY_S * sample_rate_hz), num_samples)
    time_s = np.arange(note_samples, dtype=np.float32) / sample_rate_hz
    envelope = np.exp(-time_s / NOTE_DECAY_S) * np.minimum(1.0, time_s / ATTACK_S)

    starts = np.arange(0, num_samples, beat_samples)
    degrees = rng.integers(len(PENTATONIC_SEMITONES), size=len(starts))
    loudness = rng.uniform(0.7, 1.0, len(starts))
    notes = {
        degree: envelope * _tone(base_hz * 2.0 ** (PENTATONIC_SEMITONES[degree] / 12), roll_off, time_s, sample_rate_hz)
        for degree in sorted(set(degrees.tolist()))
    }
    burst = envelope**3 * rng.normal(0.0, 0.5, note_samples).astype(np.float32)

    wave = np.zeros(num_samples + note_samples, np.float32)
    for start, degree, level in zip(starts, degrees, loudness):
        wave[start : start + note_samples] += level * ((1 - noise_share) * notes[degree] + noise_share * burst)
    wave = wave[:num_samples]
    wave += 0.05 * noise_share * rng.normal(0.0, 1.0, num_samples).astype(np.float32)
    return (0.8 / np.abs(wave).max() * wave).astype(np.float32)


def _tone(pitch_hz: float, roll_off: float, time_s: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The sum of the harmonics below the Nyquist frequency, unit power: float32 [num_samples]."""
    harmonics = np.arange(1, NUM_HARMONICS + 1)
    harmonics = harmonics[harmonics * pitch_hz < sample_rate_hz / 2]
    amplitudes = harmonics.astype(np.float32) ** -roll_off
    phases = np.outer(2 * np.pi * pitch_hz * harmonics, time_s).astype(np.float32)
    return (amplitudes / np.linalg.norm(amplitudes)) @ np.sin(phases)
