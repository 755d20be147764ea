"""What do audio and video features cost, beside librosa and OpenCV on the same files?

Throughput is media seconds over processor seconds (user and system, children too): what one core does, also on a busy
machine. Linear algebra runs in one thread for every contender: OpenBLAS's threads wait for the next product by
spinning, which costs more than the products of a clip.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import audioread
import cv2
import librosa
import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from benchmarks.clips import RATE_HZ, encode, music, pictures
from components.contract import AUDIO_MELS, VIDEO_HEIGHT, VIDEO_WIDTH
from components.media.audio import decode_audio, sample_segments
from components.media.extract import extract
from components.media.isolation import Decoder
from components.media.spectrogram import HOP_SAMPLES, SAMPLE_RATE_HZ, SEGMENT_SAMPLES, WINDOW_SAMPLES, log_mel
from components.media.video import sample_key_frames

NAME = "media"
# librosa: what loads the whole file; the loader of parts is "librosa, offset and duration".
GOALS = (
    {"case": "audio_clips", "metric": "times_real_time", "at_least": 1.2, "of": "librosa"},
    {"case": "audio_full_tracks", "metric": "times_real_time", "at_least": 5.0, "of": "librosa"},
    {"case": "video", "metric": "times_real_time", "at_least": 3.0, "of": "opencv"},
    {"case": "log_mel", "metric": "times_real_time", "at_least": 1.0, "of": "tensorflow-io"},
)
CLIPS, CLIP_S = 20, 30.0
TRACKS, TRACK_S = 10, 240.0
RUNS = 3
ROOT = Path(__file__).resolve().parents[1]


def run(data_dir: Path | None = None) -> list[dict]:
    """Rows of evaluation.md. data_dir: a folder of audio files to take clips and tracks from; without it, both are
    made."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        tracks = _tracks(data_dir, Path(folder))
        clips = _clips(tracks, Path(folder))
        videos = _videos(Path(folder))
        return [
            *_compare("audio_clips", clips, {"ours": _ours_whole, f"librosa {version('librosa')}": _librosa_whole}),
            *_compare(
                "audio_full_tracks",
                tracks,
                {
                    "ours": lambda path: log_mel(sample_segments(path).waveforms),
                    f"librosa {version('librosa')}": _librosa_whole,
                    f"librosa {version('librosa')}, offset and duration": _librosa_segments,
                },
            ),
            *_compare("video", videos, {"ours": sample_key_frames, f"opencv {cv2.__version__}": _opencv_all}),
            *_compare_log_mel(),
            *_isolation(tracks),
            *_memory_and_scaling(clips),
        ]


def _row(case: str, contender: str, metric: str, values: list[float]) -> dict:
    spread = (min(values), max(values)) if len(values) > 1 else (None, None)
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        "value": float(np.median(values)),
        "low": spread[0],
        "high": spread[1],
        "runs": len(values),
    }


def _compare(case: str, files: dict[Path, float], contenders: dict[str, Callable]) -> list[dict]:
    """files: path -> seconds. Contenders take turns, so that a change of the machine's pace hits all."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for work in contenders.values():
        work(next(iter(files)))  # imports, caches, kernels
    for _ in range(RUNS):
        for name, work in contenders.items():
            begin = _cpu_s()
            for path in files:
                work(path)
            speeds[name].append(sum(files.values()) / (_cpu_s() - begin))
    return [_row(case, name, "times_real_time", values) for name, values in speeds.items()]


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _tracks(data_dir: Path | None, folder: Path) -> dict[Path, float]:
    if data_dir is not None:
        paths = sorted(path for path in data_dir.rglob("*") if path.suffix in (".ogg", ".mp3", ".flac", ".wav"))
        return {path: sample_segments(path).duration_s for path in paths}
    tracks = {}
    for number in range(TRACKS):
        path = folder / f"track{number}.ogg"
        path.write_bytes(encode("ogg", audio=("libvorbis", np.tile(music(TRACK_S / 4, number), 4))))
        tracks[path] = TRACK_S
    return tracks


def _clips(tracks: dict[Path, float], folder: Path) -> dict[Path, float]:
    clips = {}
    for number, track in enumerate(list(tracks)[:CLIPS]):
        path = folder / f"clip{number}.mp3"
        samples, _ = librosa.load(track, sr=RATE_HZ, mono=False, offset=5.0, duration=CLIP_S)
        path.write_bytes(encode("mp3", audio=("libmp3lame", np.atleast_2d(samples))))
        clips[path] = samples.shape[-1] / RATE_HZ
    return clips


def _videos(folder: Path) -> dict[Path, float]:
    videos = {}
    for number, seconds in enumerate((60, 120)):
        path = folder / f"video{number}.mp4"
        path.write_bytes(encode("mp4", video=("libx264", pictures(seconds * 25, 360, 640, number), 360, 640)))
        videos[path] = float(seconds)
    return videos


def _ours_whole(path: Path) -> np.ndarray:
    return log_mel(decode_audio(path))


def _librosa_mel(samples: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=SAMPLE_RATE_HZ,
        n_fft=512,
        win_length=WINDOW_SAMPLES,
        hop_length=HOP_SAMPLES,
        n_mels=AUDIO_MELS,
        power=1.0,
        htk=True,
    )
    return np.log(np.maximum(mel, 1e-4))


def _librosa_whole(path: Path) -> np.ndarray:
    return _librosa_mel(librosa.load(path, sr=SAMPLE_RATE_HZ)[0])


def _librosa_segments(path: Path) -> list[np.ndarray]:
    """The same segments by libsndfile's own seeking; tracks in which that fails (some Ogg files) are left out, to its
    advantage."""
    seconds = librosa.get_duration(path=path)
    places_s = [(part + 0.5) * seconds / 3 - 1.5 for part in range(3)]
    with warnings.catch_warnings(), contextlib.suppress(soundfile.LibsndfileError, audioread.NoBackendError):
        warnings.simplefilter("ignore")
        return [
            _librosa_mel(librosa.load(path, sr=SAMPLE_RATE_HZ, offset=place_s, duration=3.015)[0])
            for place_s in places_s
        ]
    return []


def _opencv_all(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        more, picture = capture.read()
        if not more:
            break
        found.append(cv2.resize(picture, (VIDEO_WIDTH, VIDEO_HEIGHT), interpolation=cv2.INTER_AREA))
    capture.release()
    return found


def _compare_log_mel() -> list[dict]:
    import tensorflow as tf
    import tensorflow_io as tfio

    waveforms = np.random.default_rng(0).normal(0, 0.1, (3, SEGMENT_SAMPLES)).astype(np.float32)
    weights = tf.signal.linear_to_mel_weight_matrix(AUDIO_MELS, 257, SAMPLE_RATE_HZ, 20.0, 8000.0)

    @tf.function
    def with_signal(samples):
        magnitudes = tf.abs(tf.signal.stft(samples, WINDOW_SAMPLES, HOP_SAMPLES, 512))
        return tf.math.log(tf.maximum(magnitudes @ weights, 1e-4))

    @tf.function
    def with_io(samples):
        magnitudes = tf.abs(tf.signal.stft(samples, WINDOW_SAMPLES, HOP_SAMPLES, 512))
        return tf.math.log(tf.maximum(tfio.audio.melscale(magnitudes, SAMPLE_RATE_HZ, AUDIO_MELS, 20.0, 8000.0), 1e-4))

    contenders = {
        "ours": lambda: log_mel(waveforms),
        f"tf.signal {tf.__version__}": lambda: with_signal(waveforms).numpy(),
        f"tensorflow-io {tfio.__version__}": lambda: with_io(waveforms).numpy(),
    }
    seconds = dict.fromkeys(range(50), 3 * SEGMENT_SAMPLES / SAMPLE_RATE_HZ)
    works = {name: (lambda _, work=work: work()) for name, work in contenders.items()}
    return _compare("log_mel", seconds, works)  # type: ignore[arg-type]


def _isolation(tracks: dict[Path, float]) -> list[dict]:
    """What the child process costs an item beside decoding in the same process, its start shared out: processor
    milliseconds."""
    values = []
    for _ in range(RUNS):
        begin = _cpu_s()
        for path in tracks:
            extract(path)
        middle = _cpu_s()
        with Decoder() as decoder:
            for path in tracks:
                decoder.extract(path)
        values.append(1000 * ((_cpu_s() - middle) - (middle - begin)) / len(tracks))
    return [_row("isolation", "ours", "added_ms", values)]


def _memory_and_scaling(clips: dict[Path, float]) -> list[dict]:
    """The Beam transform in a process of its own: peak memory over 10 x the items, seconds with 1 and 2 workers."""
    rows = []
    for items in (60, 600):
        report = _pipeline(clips, items, workers=1)
        rows.append(_row(f"memory_{items}_items", "ours", "peak_mb", [report["peak_mb"]]))
    for workers in (1, 2):
        rows.append(
            _row(
                f"workers_{workers}", "ours", "seconds", [_pipeline(clips, 600, workers, in_processes=True)["seconds"]]
            )
        )
    return rows


def _pipeline(clips: dict[Path, float], items: int, workers: int, in_processes: bool = False) -> dict:
    arguments = json.dumps(
        {"paths": [str(path) for path in clips], "items": items, "workers": workers, "in_processes": in_processes}
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "benchmarks.media_pipeline", arguments]
    return json.loads(
        subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True
        ).stdout.splitlines()[-1]
    )
