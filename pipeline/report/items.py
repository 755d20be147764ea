"""What a report shows of single items: titles and domains, small pictures, loudness, and a map of their vectors."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.contract import (
    AUDIO_FRAMES,
    AUDIO_MELS,
    AUDIO_SEGMENTS,
    LOG_MEL_CEILING,
    LOG_MEL_FLOOR,
    VIDEO_HEIGHT,
    VIDEO_KEY_FRAMES,
    VIDEO_WIDTH,
)
from pipeline.records import examples_of, flag, text
from pipeline.run_history import RunRecord

MOST_ON_MAP = 2000  # items
MOST_FOR_PICTURES = 50_000  # a larger catalogue's media features are not searched for the few that are shown
BARS = 32  # of a loudness curve
_FRAME_SHAPE = (VIDEO_KEY_FRAMES, VIDEO_HEIGHT, VIDEO_WIDTH, 3)


@dataclass(frozen=True)
class Item:
    """One item as a reader would recognise it."""

    item_id: str
    title: str
    domain: str


@dataclass(frozen=True)
class Look:
    """What there is to see of an item."""

    picture: str = ""  # its first key frame as a JPEG data URI
    loudness: tuple[float, ...] = ()  # of its sound over time, 0 to 1


@dataclass(frozen=True)
class ItemMap:
    """The item vectors on their two leading principal components."""

    items: list[Item]
    points: np.ndarray  # float [items, 2], each axis between 0 and 1
    shares: tuple[float, float]  # of the vectors' variance that the axes show
    num_items: int  # of the catalogue, of which `items` are a sample


def read_item_map(run: RunRecord) -> ItemMap | None:
    """The map of a run's item vectors; None where the run has no index or its catalogue is gone."""
    index, catalogue = run.output("ItemIndex", "index"), run.output("CatalogGen", "examples")
    if index is None or catalogue is None:
        return None
    item_ids = json.loads((index / "item_ids.json").read_text(encoding="utf-8"))
    chosen = np.unique(np.linspace(0, len(item_ids) - 1, min(len(item_ids), MOST_ON_MAP)).astype(int))
    vectors = np.load(index / "vectors.npy", mmap_mode="r")[chosen]
    points, shares = principal_components(vectors)
    ids = [item_ids[row] for row in chosen]
    known = read_items(catalogue, ids)
    return ItemMap([known.get(item_id, Item(item_id, item_id, "")) for item_id in ids], points, shares, len(item_ids))


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Float [N, D] on its two leading principal components, each scaled to 0..1, and their shares of the variance."""
    centred = np.asarray(vectors, np.float64) - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(centred), 2))
    points[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    span = np.ptp(points, axis=0)
    variance = np.zeros(2)
    variance[: len(sizes[:2])] = sizes[:2] ** 2
    shares = variance / max(float((sizes**2).sum()), 1e-12)
    return (points - points.min(0)) / np.where(span > 0, span, 1), (float(shares[0]), float(shares[1]))


def read_items(catalogue: Path, item_ids: Collection[str]) -> dict[str, Item]:
    """Title and domain of some items, from a folder of catalogue examples."""
    wanted, found = set(item_ids), {}
    for features in examples_of(catalogue):
        item_id = text(features, "item_id")
        if item_id in wanted:
            found[item_id] = Item(item_id, text(features, "title") or item_id, text(features, "domain"))
            if len(found) == len(wanted):
                break
    return found


def read_looks(run: RunRecord, item_ids: Collection[str]) -> dict[str, Look]:
    """Picture and loudness of some items, from their media features; none where the catalogue is large."""
    media = run.output("MediaFeatures", "examples")
    index = run.output("ItemIndex", "index")
    if media is None or index is None or not item_ids:
        return {}
    if json.loads((index / "report.json").read_text(encoding="utf-8"))["num_items"] > MOST_FOR_PICTURES:
        return {}
    wanted, found = set(item_ids), {}
    for features in examples_of(media):
        item_id = text(features, "item_id")
        if item_id in wanted:
            found[item_id] = Look(_picture(features), _loudness(features))
            if len(found) == len(wanted):
                break
    return found


def _picture(features: Any) -> str:
    """The first key frame as a data URI; empty where there is none."""
    if not flag(features, "has_video"):
        return ""
    import tensorflow as tf

    frames = np.frombuffer(features["video_frames"].bytes_list.value[0], np.uint8).reshape(_FRAME_SHAPE)
    jpeg = tf.io.encode_jpeg(frames[0], quality=80).numpy()
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _loudness(features: Any) -> tuple[float, ...]:
    """Amplitude over time, a share of the loudest; empty where there is no sound."""
    if not flag(features, "has_audio"):
        return ()
    shape = (AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS)
    log_mel = np.frombuffer(features["audio_log_mel"].bytes_list.value[0], np.uint8).reshape(shape) / 255
    power = np.exp(LOG_MEL_FLOOR + (LOG_MEL_CEILING - LOG_MEL_FLOOR) * log_mel).mean(2)
    valid = features["audio_num_frames"].int64_list.value
    heard = np.sqrt(np.concatenate([power[segment, :frames] for segment, frames in enumerate(valid)]))
    if not len(heard):
        return ()
    bars = np.array([part.mean() for part in np.array_split(heard, min(BARS, len(heard)))])
    return tuple(float(round(level, 3)) for level in bars / bars.max())
