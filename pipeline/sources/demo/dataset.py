"""The demo world on disk: `catalogue.csv`, `events.csv`, `users.csv`, `media/`, and `truth.npz`, which only the
references may read."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from components.contract import CATALOGUE, EVENTS
from pipeline.sources.demo import events, media
from pipeline.sources.demo.text import write_texts
from pipeline.sources.demo.world import (
    DAY_S,
    START_S,
    DemoConfig,
    Items,
    People,
    generator,
    make_items,
    make_people,
    visit_times,
)
from pipeline.sources.folder import write_csv, write_once
from pipeline.sources.summary import Summary

DEFAULT = DemoConfig()
VERSION = 1  # raise it when the world that a seed gives changes
NUM_BROKEN = 2


def write_demo(out_dir: Path, config: DemoConfig = DEFAULT) -> Summary:
    """Make the world in `out_dir`, or leave it as it is where the same world is already there.

    Raises SourceError if the folder holds anything but earlier data of ours.
    """

    def make(folder: Path) -> Summary:
        times_s = visit_times(config, events.num_visits(config))
        items, people = make_items(config, times_s), make_people(config)
        visits = events.simulate(config, items, people, times_s)
        (folder / "media").mkdir()
        if config.media:
            _write_media(folder / "media", config, items)
        _write_truth(folder / "truth.npz", config, items, people)
        return Summary(
            items=write_csv(
                folder / "catalogue.csv", [column.name for column in CATALOGUE], _catalogue_rows(config, items)
            ),
            users=write_csv(folder / "users.csv", ("user_id", "age_group"), zip(people.ids, people.age_groups)),
            events=write_csv(
                folder / "events.csv", [column.name for column in EVENTS if column.name != "split"], visits
            ),
            media_files=sum(map(bool, items.formats)),
        )

    return write_once(out_dir, {"source": "demo", "version": VERSION, **dataclasses.asdict(config)}, make)


def media_name(items: Items, row: int) -> str:
    """The item's media file relative to the world's folder, "" without media."""
    return f"media/{items.ids[row]}.{items.formats[row]}" if items.formats[row] else ""


def _write_media(media_dir: Path, config: DemoConfig, items: Items) -> None:
    broken = _broken_rows(config, items)

    def write(row: int) -> None:
        path = media_dir / Path(media_name(items, row)).name
        if row in broken:
            media.write_broken(path, broken.index(row))
        else:
            media.write_item(config, items, row, path)

    rows = [row for row, extension in enumerate(items.formats) if extension]
    # Encoders and NumPy let other threads run; each item has its own random numbers, so their order does not matter.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(pool.map(write, rows), total=len(rows), desc="media", unit="file", disable=None):
            pass


def _broken_rows(config: DemoConfig, items: Items) -> list[int]:
    """Old MP3s that went bad, too few to come near the limit of rejects; tiny worlds may have none."""
    candidates = [row for row, extension in enumerate(items.formats) if extension == "mp3" and not items.cold[row]]
    most = min(NUM_BROKEN, int(0.02 * len(items.ids)))
    return [int(row) for row in generator(config, "broken").permutation(candidates)[:most]]


def _catalogue_rows(config: DemoConfig, items: Items) -> Iterable[dict[str, Any]]:
    rng = generator(config, "catalogue")
    for row, text in enumerate(write_texts(config, items)):
        states_duration = items.formats[row] and rng.random() < 0.8
        published = datetime.datetime.fromtimestamp(int(items.published_s[row]), datetime.timezone.utc)
        yield {
            "item_id": items.ids[row],
            "title": text.title,
            "description": text.description,
            "tags": "|".join(text.tags),
            "domain": items.domains[row],
            "creator": text.creator,
            "media_uri": media_name(items, row),
            "published_at": published.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_s": items.duration_s[row] if states_duration else "",
        }


def _write_truth(path: Path, config: DemoConfig, items: Items, people: People) -> None:
    np.savez(
        path,
        item_ids=np.array(items.ids),
        traits=items.traits,
        pull=items.pull,
        cold=items.cold,
        user_ids=np.array(people.ids),
        taste_start=people.taste_start,
        taste_end=people.taste_end,
        start_s=START_S,
        end_s=START_S + config.num_days * DAY_S,
        sharpness=events.CHOICE_SHARPNESS,
    )
