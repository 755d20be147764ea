"""The pictures of a catalogue as every contender sees them: what the product stores, and the same large.

N items, R pictures of all items together, K key frames of an item.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from benchmarks.stored import keep, key_of
from components.media.errors import Crashed, MediaError
from components.media.isolation import Decoder
from components.settings import SettingsError
from pipeline.fingerprint import code_fingerprint

T = TypeVar("T")
KEPT = Path(__file__).parents[2] / ".zhiyin" / "bench" / "pictures"


@dataclass(frozen=True)
class Frames:
    """Decoded pictures and their labels."""

    ids: list[str]
    labels: dict[str, list[str]]  # "theme" and "set" -> [N]; empty where the other is meant
    frames: np.ndarray  # uint8 [N, K, VIDEO_HEIGHT, VIDEO_WIDTH, 3], as the product stores them
    times_s: np.ndarray  # float32 [N, K]
    num_frames: np.ndarray  # int64 [N]
    large: np.ndarray  # uint8 [R, LARGE, LARGE, 3], those of an item side by side
    digest: str  # of the files and of the code that decoded them

    def kept(self, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """An array of a contender, from an earlier run of the same code on the same pictures where there is one."""
        key = key_of(self.digest, code_fingerprint("benchmarks.pictures.contenders"))
        return keep(KEPT / name, key, lambda: ({}, {"values": compute()})).arrays["values"]

    def by_item(self, of_pictures: np.ndarray) -> np.ndarray:
        """The mean over each item's pictures: [R, E] -> [N, E]."""
        starts = np.cumsum([0, *self.num_frames[:-1]])
        return np.add.reduceat(of_pictures, starts, axis=0) / self.num_frames[:, None]


def read_frames(data_dir: Path | None) -> Frames:
    """Decodes the catalogue of `zhiyin data pictures`, in the isolated decoder, or takes what an earlier run kept.

    What the decoder refuses is left out, as the product would; one that crashes it is tried again in a fresh one.
    Raises SettingsError where the catalogue is not there.
    """
    folder = data_dir or Path("data/pictures")
    if not (folder / "labels.csv").is_file():
        raise SettingsError(f"{folder}: no labels.csv; make it with ./zhiyin data pictures --fetch, or --data-dir")
    catalogue, labels = (_read(folder / name) for name in ("catalogue.csv", "labels.csv"))
    paths = [folder / row["media_uri"] for row in catalogue]
    key = key_of(code_fingerprint("benchmarks.pictures.frames"), *paths)
    arrays = keep(KEPT / "frames", key, lambda: ({}, _decoded(paths))).arrays
    rows = arrays.pop("rows")
    by_label = {name: [labels[row][name] for row in rows] for name in ("theme", "set")}
    return Frames([catalogue[row]["item_id"] for row in rows], by_label, **arrays, digest=key)


def _decoded(paths: list[Path]) -> dict[str, np.ndarray]:
    rows, stored, large = [], [], []
    with Decoder() as decoder:
        for row, path in enumerate(tqdm(paths, desc="decoding", unit="picture", disable=None)):
            try:
                found, pictures = _again(decoder.extract, path), _again(decoder.pictures, path).pictures
            except MediaError as error:
                tqdm.write(f"{path.name}: left out ({error.reason})")
                continue
            assert found.video_num_frames == len(pictures)
            rows.append(row)
            stored.append(found)
            large.append(pictures)
    return {
        "rows": np.array(rows),
        "frames": np.stack([np.asarray(found.video_frames) for found in stored]),
        "times_s": np.stack([np.asarray(found.video_times_s) for found in stored]),
        "num_frames": np.array([found.video_num_frames for found in stored]),
        "large": np.concatenate(large),
    }


def _again(decode: Callable[[Path], T], path: Path) -> T:
    """What a decoder makes of a file; a crash ends its process, so the second try is one in a fresh process."""
    try:
        return decode(path)
    except Crashed:
        return decode(path)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
