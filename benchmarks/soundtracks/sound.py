"""The tracks of a catalogue as every contender hears them: three segments of three seconds each.

N tracks, S segments.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.stored import keep, key_of
from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS
from components.media.isolation import Decoder
from components.media.spectrogram import SAMPLE_RATE_HZ, SEGMENT_SAMPLES, log_mel, quantise
from components.settings import SettingsError
from pipeline.fingerprint import code_fingerprint

KEPT = Path(__file__).parents[2] / ".zhiyin" / "bench" / "soundtracks"
_MFCC = 20


@dataclass(frozen=True)
class Sound:
    """Decoded tracks and their labels."""

    ids: list[str]
    labels: dict[str, list[str]]  # "soundtrack" and "composer" -> [N]; empty where unknown
    titles: list[str]
    waveforms: np.ndarray  # float16 [N, S, SEGMENT_SAMPLES]
    num_samples: np.ndarray  # int64 [N, S]
    log_mel: np.ndarray  # uint8 [N, S, F, M], as the product stores it
    num_frames: np.ndarray  # int64 [N, S]
    digest: str  # of the files and of the code that decoded them

    def kept(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """An array of a contender, from an earlier run of the same code on the same tracks where there is one."""
        key = key_of(self.digest, code_fingerprint("benchmarks.soundtracks.contenders"))
        return keep(KEPT / name, key, lambda: ({}, {"values": compute()})).arrays["values"]


def read_sound(data_dir: Path | None) -> Sound:
    """Decodes the catalogue of `zhiyin data soundtracks`, in the isolated decoder, or takes what an earlier run kept.

    Raises SettingsError where it is not there, MediaError for a track that cannot be decoded.
    """
    folder = data_dir or Path("data/soundtracks")
    if not (folder / "labels.csv").is_file():
        raise SettingsError(f"{folder}: no labels.csv; make it with ./zhiyin data soundtracks --fetch, or --data-dir")
    catalogue, labels = (_read(folder / name) for name in ("catalogue.csv", "labels.csv"))
    ids = [row["item_id"] for row in catalogue]
    paths = [folder / row["media_uri"] for row in catalogue]
    key = key_of(code_fingerprint("benchmarks.soundtracks.sound"), *paths)
    arrays = keep(KEPT / "sound", key, lambda: ({}, _decoded(paths))).arrays
    by_label = {name: [row[name] for row in labels] for name in ("soundtrack", "composer")}
    return Sound(ids, by_label, [row["title"] for row in catalogue], **arrays, digest=key)


def mfcc(sound: Sound) -> np.ndarray:
    """Mean and deviation of the first coefficients of each segment, by librosa: float32 [N, S, 2 x _MFCC]."""
    import librosa

    found = np.zeros((len(sound.ids), AUDIO_SEGMENTS, 2 * _MFCC), np.float32)
    for row, segment in np.argwhere(sound.num_samples > 0):
        waveform = sound.waveforms[row, segment, : sound.num_samples[row, segment]].astype(np.float32)
        coefficients = librosa.feature.mfcc(y=waveform, sr=SAMPLE_RATE_HZ, n_mfcc=_MFCC)
        found[row, segment] = np.concatenate([coefficients.mean(1), coefficients.std(1)])
    return found


def _decoded(paths: list[Path]) -> dict[str, np.ndarray]:
    waveforms = np.zeros((len(paths), AUDIO_SEGMENTS, SEGMENT_SAMPLES), np.float16)
    num_samples = np.zeros((len(paths), AUDIO_SEGMENTS), np.int64)
    mels = np.zeros((len(paths), AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS), np.uint8)
    num_frames = np.zeros_like(num_samples)
    with Decoder() as decoder:
        for row, path in enumerate(tqdm(paths, desc="decoding", unit="track", disable=None)):
            track = decoder.segments(path)
            waveforms[row], num_samples[row] = track.waveforms, track.num_samples
            for segment, count in enumerate(track.num_samples):
                if count:
                    values = quantise(log_mel(track.waveforms[segment, :count]))
                    mels[row, segment, : len(values)], num_frames[row, segment] = values, len(values)
    return {"waveforms": waveforms, "num_samples": num_samples, "log_mel": mels, "num_frames": num_frames}


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
