"""Vectors of the same tracks by each contender.

N tracks, E numbers of a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.soundtracks.retrieval import galleries, precision
from benchmarks.soundtracks.sound import Sound, mfcc
from components.settings import SettingsError
from pipeline.frozen_models import MODELS, MODELS_FOLDER

if TYPE_CHECKING:
    from components.media.audio import AudioSegments

MUSICNN = ("musicnn",)
STATISTICS, OURS = "statistics", "ours"  # ours: the statistics and what pretraining on the catalogue adds
_LIMIT = 4.0  # standard deviations, as in the product
_TRACKS = 16  # a batch
_WEIGHTS = (0.0, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)  # of a frozen encoder beside ours


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
    pretrained = beside(statistics, sound.kept("codebook", lambda: _codebook(sound)))
    return {
        "random": np.random.default_rng(0).normal(size=(len(sound.ids), 64)),
        "MFCC": z_scores(sound.kept("mfcc", lambda: mfcc(sound)).mean(1)),
        STATISTICS: statistics,
        OURS: pretrained,
        **frozen,
        **{f"{OURS} + {name}": fused(sound, pretrained, vectors) for name, vectors in frozen.items()},
    }


def z_scores(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and deviation 1 over all tracks, within +-_LIMIT."""
    return np.clip((values - values.mean(0)) / np.maximum(values.std(0), 1e-6), -_LIMIT, _LIMIT)


def fused(sound: Sound, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Both side by side, with the weight of the second that finds most on the labels for choosing; 0, or the second
    alone, where that finds more than both.
    """
    chosen = [galleries(sound.ids, labels)["choosing"] for labels in sound.labels.values()]

    def found(vectors: np.ndarray) -> float:
        return float(np.mean([np.mean(list(precision(vectors, gallery).values())) for gallery in chosen]))

    return max((second, *(beside(first, second, weight) for weight in _WEIGHTS)), key=found)


def beside(first: np.ndarray, second: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Vectors whose dot product is the cosine of the first plus the squared weight times that of the second."""
    units = [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9) for values in (first, second)]
    return np.concatenate([units[0], weight * units[1]], 1)


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
