"""Vectors of the same tracks by each contender.

N tracks, E numbers of a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.soundtracks.sound import Sound, mfcc
from components.settings import SettingsError
from pipeline.frozen_models import MODELS, MODELS_FOLDER

if TYPE_CHECKING:
    from components.media.audio import AudioSegments

MUSICNN = ("musicnn",)
STATISTICS, OURS = "statistics", "ours"  # ours: the statistics and what pretraining on the catalogue adds
CODEBOOK, HALF_WHITE = "dictionary", "half whitened"
FUSION = f"{OURS} + {MUSICNN[0]}"
PARTS = (OURS, *(name + form for name in (STATISTICS, CODEBOOK, *MUSICNN) for form in ("", f", {HALF_WHITE}")))
_LIMIT = 4.0  # standard deviations, as in the product
_TRACKS = 16  # a batch
_WHITENING = 0.5  # exponent: 0 leaves the components as they are, 1 makes all equal
_SMOOTHING = 0.1  # added to the components' variances, as a share of their mean


def vectors_of(sound: Sound, models_folder: Path = MODELS_FOLDER) -> dict[str, np.ndarray]:
    """Contender -> float [N, E]. Raises SettingsError where a frozen encoder was not fetched."""
    missing = [name for name in MUSICNN if not MODELS[name].is_fetched(models_folder)]
    if missing:
        raise SettingsError(f"{models_folder}: got no {missing[0]}; get it with ./zhiyin models fetch {missing[0]}")
    frozen = {
        name: directions(sound.kept(name, lambda: _frozen(sound, name, models_folder)))  # noqa: B023  (called at once)
        for name in MUSICNN
    }
    statistics = z_scores(sound.kept("statistics", lambda: _statistics(sound)))
    codebook = sound.kept("codebook", lambda: _codebook(sound))
    return {
        "random": np.random.default_rng(0).normal(size=(len(sound.ids), 64)),
        "MFCC": z_scores(sound.kept("mfcc", lambda: mfcc(sound)).mean(1)),
        STATISTICS: statistics,
        CODEBOOK: codebook,
        OURS: beside(statistics, codebook),
        **frozen,
        **{
            f"{name}, {HALF_WHITE}": whitened(part)
            for name, part in {STATISTICS: statistics, CODEBOOK: codebook, **frozen}.items()
        },
        **{f"{OURS} + {name}": fused(statistics, codebook, vectors) for name, vectors in frozen.items()},
    }


def z_scores(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1 over all tracks, within +-_LIMIT."""
    return np.clip((values - values.mean(0)) / np.maximum(values.std(0), 1e-6), -_LIMIT, _LIMIT)


def fused(*parts: np.ndarray) -> np.ndarray:
    """Parts side by side, each with its principal components made less unequal: the few that sound alike in most music
    would else decide alone what each part finds alike. No label is read.
    """
    return beside(*(whitened(part) for part in parts))


def whitened(values: np.ndarray) -> np.ndarray:
    """Principal components, each divided by its deviation to the power _WHITENING: float [N, at most E]."""
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    known = sizes > 1e-6 * sizes[0]
    components, variances = (left * sizes)[:, known], sizes[known] ** 2 / len(values)
    return components * (variances + _SMOOTHING * variances.mean()) ** (-_WHITENING / 2)


def beside(*parts: np.ndarray) -> np.ndarray:
    """Vectors whose dot product is the sum of the parts' cosines."""
    return np.concatenate(
        [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9) for values in parts], 1
    )


def directions(values: np.ndarray) -> np.ndarray:
    """Directions from the mean of all directions, as the product reads an embedding."""
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return unit - unit.mean(0)


def _statistics(sound: Sound) -> np.ndarray:
    from trainer.encoders.audio import audio_statistics
    from trainer.keras import tf

    starts = range(0, len(sound.ids), _TRACKS)
    parts = [(sound.log_mel[start : start + _TRACKS], sound.num_frames[start : start + _TRACKS]) for start in starts]
    return np.concatenate([audio_statistics(tf.constant(mels), tf.constant(frames)).numpy() for mels, frames in parts])


def _codebook(sound: Sound) -> np.ndarray:
    from trainer.encoders.codebook import PatchCodebook

    codebook = PatchCodebook()
    features = {"audio_log_mel": sound.log_mel, "audio_num_frames": sound.num_frames}
    codebook.learn(features, np.zeros(len(sound.ids), bool), seed=7)
    starts = range(0, len(sound.ids), _TRACKS)
    batches = ({name: values[start : start + _TRACKS] for name, values in features.items()} for start in starts)
    return np.concatenate([codebook(batch).numpy() for batch in batches])


def _frozen(sound: Sound, name: str, models_folder: Path) -> np.ndarray:
    from trainer.encoders.frozen import load

    encode = load(MODELS[name].encoder(models_folder))
    found = []
    for start in range(0, len(sound.ids), _TRACKS):
        tracks = [_segments(sound, row) for row in range(start, min(start + _TRACKS, len(sound.ids)))]
        found.append(encode(tracks)[f"embedding_{name}"])
    return np.concatenate(found)


def _segments(sound: Sound, row: int) -> AudioSegments:
    from components.media.audio import AudioSegments

    waveforms, counts = sound.waveforms[row].astype(np.float32), sound.num_samples[row]
    return AudioSegments(waveforms, counts, np.zeros(len(counts), np.float32), 0.0)
