"""What a run's data and lists look like in numbers that can be compared with another run's.

Vectors of the model are no such numbers: a model that is trained anew has other axes. So content is summarised by what
does not change: the mean level of each mel band, and the mean colours of the key frames.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.contract import AUDIO_FRAMES, AUDIO_MELS, AUDIO_SEGMENTS, VIDEO_KEY_FRAMES
from components.events.splits import SPLITS
from pipeline.records import examples_of, flag, text
from pipeline.run_history import RunRecord

MOST_ITEMS = 5000  # whose content is summarised
CONTENT_DIM = AUDIO_MELS + 3  # mel bands, then red, green, blue


@dataclass(frozen=True)
class Contents:
    """The items of a catalog, in an order that their ids alone decide, with the content of the first of them."""

    item_ids: list[str]
    domains: list[str]
    values: np.ndarray  # float32 [first items, CONTENT_DIM], 0 to 255; NaN where one has no sound or no picture
    interactions: np.ndarray  # int64 [items]


class Coverage(NamedTuple):
    """How much of a catalog the lists show."""

    share: float  # of the items, in lists of ten
    people: int  # whose lists they are: more people are shown more


@dataclass(frozen=True)
class Snapshot:
    """The state of a run. What is None was not recorded."""

    run_id: str
    statistics: dict[str, Any]  # table (catalog, events) -> TFDV's DatasetFeatureStatisticsList
    contents: Contents | None
    interactions: np.ndarray | None  # int64 [items of the catalog], how often each was taken
    coverage: Coverage | None


def read_snapshot(run: RunRecord) -> Snapshot:
    """The state of a run, as far as it recorded it."""
    tables = {"catalog": "CatalogStatistics", "events": "EventStatistics"}
    found = {table: statistics_of(run, node) for table, node in tables.items()}
    counts = _interactions(run)
    return Snapshot(
        run.run_id,
        {table: statistics for table, statistics in found.items() if statistics is not None},
        _contents(run, counts),
        np.array(list(counts.values()), np.int64) if counts else None,
        _coverage(run),
    )


def statistics_of(run: RunRecord, node: str) -> Any:
    """TFDV's statistics of a table as DatasetFeatureStatisticsList; None where the run has none."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    folder = run.output(node, "statistics")
    if folder is None:
        return None
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(
        (folder / "Split-train" / "FeatureStats.pb").read_bytes()
    )


def summarised(features: Any) -> np.ndarray:
    """The summary of one item's media features: float32 [CONTENT_DIM]."""
    found = np.full(CONTENT_DIM, np.nan, np.float32)
    if flag(features, "has_audio"):
        shape = (AUDIO_SEGMENTS, AUDIO_FRAMES, AUDIO_MELS)
        levels = np.frombuffer(features["audio_log_mel"].bytes_list.value[0], np.uint8).reshape(shape)
        valid = features["audio_num_frames"].int64_list.value
        heard = np.concatenate([levels[segment, :frames] for segment, frames in enumerate(valid)])
        if len(heard):
            found[:AUDIO_MELS] = heard.mean(0)
    if flag(features, "has_video"):
        frames = np.frombuffer(features["video_frames"].bytes_list.value[0], np.uint8)
        valid_frames = features["video_num_frames"].int64_list.value[0]
        found[AUDIO_MELS:] = frames.reshape(VIDEO_KEY_FRAMES, -1, 3)[:valid_frames].mean((0, 1))
    return found


def _contents(run: RunRecord, counts: dict[str, int]) -> Contents | None:
    """The same items are summarised in every run that has them: files hold them in an order that is anew by chance."""
    catalog, media = run.output("CatalogGen", "examples"), run.output("MediaFeatures", "examples")
    if catalog is None or media is None:
        return None
    domains = {text(features, "item_id"): text(features, "domain") for features in examples_of(catalog)}
    ids = sorted(domains, key=lambda item_id: hashlib.blake2b(item_id.encode(), digest_size=8).digest())
    interactions = np.array([counts.get(item_id, 0) for item_id in ids], np.int64)
    return Contents(ids, [domains[item_id] for item_id in ids], _values(media, ids[:MOST_ITEMS]), interactions)


def _values(media: Path, item_ids: list[str]) -> np.ndarray:
    """The summaries of some items: float32 [items, CONTENT_DIM]."""
    rows = {item_id: row for row, item_id in enumerate(item_ids)}
    values = np.full((len(rows), CONTENT_DIM), np.nan, np.float32)
    for features in examples_of(media) if rows else ():
        row = rows.pop(text(features, "item_id"), None)
        if row is not None:
            values[row] = summarised(features)
            if not rows:
                break
    return values


def _interactions(run: RunRecord) -> dict[str, int]:
    """How often each item of the index was taken, over all splits, each interaction once; none without a record."""
    index, sequences = run.output("ItemIndex", "index"), run.output("Interactions", "sequences")
    if index is None or sequences is None:
        return {}
    from components.datasets.interactions import read_interactions

    item_ids = json.loads((index / "item_ids.json").read_text(encoding="utf-8"))
    total = np.zeros(len(item_ids), np.int64)
    for split in _splits(sequences):
        people = read_interactions(str(split), item_ids)
        total += np.bincount(people.items[~people.is_history], minlength=len(item_ids))
    return dict(zip(item_ids, total.tolist()))


def _splits(sequences: Path) -> list[Path]:
    return [folder for folder in (sequences / f"Split-{split}" for split in SPLITS) if folder.is_dir()]


def _coverage(run: RunRecord) -> Coverage | None:
    rows = (run.evaluation() or {}).get("rows", ())
    wanted = ("ours", "all", "coverage@10")
    found = [row for row in rows if (row["contender"], row["slice"], row["metric"]) == wanted]
    return Coverage(found[0]["value"], found[0]["users"]) if found else None
