"""Which channel stands for a recording whose channels cancel each other out in the mix."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import av
import numpy as np

MEASURED_EVERY = 8  # frames: one of so many is to be measured
BLOCK_FRAMES = 64  # measured at a time: each call costs as much as measuring a frame of a thousand samples
CANCELLED = (
    0.35  # level of the mix to that of independent channels, below which it is not what a listener hears (-9 dB)
)
SILENT = 1e-6  # of the largest sample of a format: below it there is nothing to compare


def heard_channel(frames: Sequence[av.AudioFrame]) -> int | None:
    """The loudest channel, where the mean of all is much quieter than they are; None where the mix can be taken.

    Channels of nearly opposite sign leave next to nothing of what is heard on each of them. The measure is relative:
    the level of the mean times the square root of the number of channels, over the root mean square of the channels.
    It is 1 for independent channels, more for similar ones, 0 for opposite ones.
    frames: of one format and layout, one of MEASURED_EVERY.
    """
    channels = frames[0].layout.nb_channels if frames else 1
    if channels < 2:
        return None
    mix_power, powers = 0.0, np.zeros(channels)  # sums of squares
    for samples in _blocks(frames, channels):
        mix_power += float(np.square(samples.mean(axis=0)).sum())
        powers += np.square(samples).sum(axis=1)
    loudness = math.sqrt(powers.mean())
    if not math.isfinite(loudness) or loudness < SILENT:
        return None
    return int(powers.argmax()) if math.sqrt(mix_power * channels) / loudness < CANCELLED else None


def _blocks(frames: Sequence[av.AudioFrame], channels: int) -> Iterator[np.ndarray]:
    """The samples of frames of one format, full scale is 1: float32 [channels, samples] each."""
    for start in range(0, len(frames), BLOCK_FRAMES):
        arrays = [frame.to_ndarray() for frame in frames[start : start + BLOCK_FRAMES]]
        raw = np.concatenate(arrays, axis=1)
        if not frames[0].format.is_planar:
            raw = raw.reshape(-1, channels).T
        if raw.dtype == np.uint8:
            yield (raw.astype(np.float32) - 128.0) / 128.0
        elif raw.dtype.kind == "i":
            yield raw.astype(np.float32) / float(1 << (8 * raw.dtype.itemsize - 1))
        else:
            yield np.nan_to_num(raw.astype(np.float32, copy=False), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
