"""Vectors of the same pictures by each contender.

N items, R pictures, H x W pixels, E numbers of a vector.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.likeness import directions, fused, z_scores
from benchmarks.pictures.frames import Frames
from components.media.video import KeyFrames
from components.settings import SettingsError
from pipeline.frozen_models import MODELS, MODELS_FOLDER

FROZEN = "efficientnet_lite0"
_AT_ONCE = 32
_HSV_BINS = (12, 4, 4)
_HOG_SIDE, _HOG_CELL = 96, 16  # pixels
_LBP_GRID = 2  # cells a side


def vectors_of(frames: Frames, models_folder: Path = MODELS_FOLDER) -> dict[str, np.ndarray]:
    """Contender -> float [N, E]. Raises SettingsError where the frozen encoder was not fetched."""
    if not MODELS[FROZEN].is_fetched(models_folder):
        raise SettingsError(f"{models_folder}: got no {FROZEN}; get it with ./zhiyin models fetch {FROZEN}")
    classic = {"HSV histogram": hsv_histogram, "LBP": lbp_histogram, "HOG": hog}
    statistics = frames.kept("statistics", lambda: _statistics(frames))
    frozen = frames.kept(FROZEN, lambda: _frozen(frames, models_folder))
    return {
        "random": np.random.default_rng(0).normal(size=(len(frames.ids), 64)),
        **{
            name: frames.kept(measure.__name__, lambda: frames.by_item(np.stack([measure(p) for p in frames.large])))  # noqa: B023  (called at once)
            for name, measure in classic.items()
        },
        "ours": z_scores(statistics),
        FROZEN: directions(frozen),
        f"ours + {FROZEN}": fused(z_scores(statistics), directions(frozen)),
    }


def hsv_histogram(picture: np.ndarray) -> np.ndarray:
    """Roots of the shares of hue, saturation and value (Swain & Ballard, 1991), whose dot product is Bhattacharyya's
    coefficient. picture: uint8 [H, W, 3], RGB."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, list(_HSV_BINS), [0, 180, 0, 256, 0, 256])
    return np.sqrt(counts.ravel() / counts.sum())


def hog(picture: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs, 2005), by OpenCV. picture: uint8 [H, W, 3], RGB."""
    side, cell = (_HOG_SIDE, _HOG_SIDE), (_HOG_CELL, _HOG_CELL)
    descriptor = cv2.HOGDescriptor(side, (2 * _HOG_CELL, 2 * _HOG_CELL), cell, cell, 9)
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), side, interpolation=cv2.INTER_AREA)
    return np.ravel(descriptor.compute(small))


def lbp_histogram(picture: np.ndarray) -> np.ndarray:
    """Roots of the shares of uniform local binary patterns in each cell of a grid (Ojala et al., 2002).

    picture: uint8 [H, W, 3], RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.int16)
    around = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    centre = grey[1:-1, 1:-1]
    rows, columns = centre.shape
    codes = np.zeros(centre.shape, np.int64)
    for bit, (down, across) in enumerate(around):
        codes |= (grey[1 + down :, 1 + across :][:rows, :columns] >= centre).astype(np.int64) << bit
    cells = [part for band in np.array_split(_UNIFORM[codes], _LBP_GRID) for part in np.array_split(band, _LBP_GRID, 1)]
    counts = np.stack([np.bincount(cell.ravel(), minlength=_UNIFORM.max() + 1) / cell.size for cell in cells])
    return np.sqrt(counts).ravel()


def _uniform_patterns() -> np.ndarray:
    """Pattern -> its bin: those with at most two changes around the circle have one each, all others share one."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    is_uniform = (bits != np.roll(bits, 1, 1)).sum(1) <= 2
    return np.where(is_uniform, np.cumsum(is_uniform) - 1, is_uniform.sum())


_UNIFORM = _uniform_patterns()


def _statistics(frames: Frames) -> np.ndarray:
    from trainer.encoders.video import video_statistics
    from trainer.keras import tf

    starts = range(0, len(frames.ids), _AT_ONCE)
    batches = (slice(start, start + _AT_ONCE) for start in starts)
    given = (frames.frames, frames.times_s, frames.num_frames)
    return np.concatenate([video_statistics(*(tf.constant(part[rows]) for part in given)).numpy() for rows in batches])


def _frozen(frames: Frames, models_folder: Path) -> np.ndarray:
    from trainer.encoders.frozen import load

    encode = load(MODELS[FROZEN].encoder(models_folder))
    ends = np.cumsum(frames.num_frames)
    videos = [
        KeyFrames(frames.large[end - count : end], times_s[:count], 0.0)
        for end, count, times_s in zip(ends, frames.num_frames, frames.times_s)
    ]
    starts = range(0, len(videos), _AT_ONCE)
    return np.concatenate([encode(videos[start : start + _AT_ONCE])[f"embedding_{FROZEN}"] for start in starts])
