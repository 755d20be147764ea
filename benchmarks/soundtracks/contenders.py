"""Vectors of the same tracks by each contender.

N tracks, E numbers of a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.likeness import beside, directions, fused, whitened, z_scores
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
_TRACKS = 16  # a batch


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
