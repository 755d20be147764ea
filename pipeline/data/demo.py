"""The demo world on disk: `catalogue.csv`, `events.csv`, `users.csv`, `media/`, and `truth.npz`, which only the references may read."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from components.contract import CATALOGUE, EVENTS
from pipeline.data import demo_events, demo_media
from pipeline.data.demo_text import write_texts
from pipeline.data.demo_world import DAY_S, START_S, DemoConfig, Items, People, generator, make_items, make_people, visit_times
from pipeline.data.summary import SourceError, Summary

DEFAULT = DemoConfig()
VERSION = 1  # raise it when the world that a seed gives changes
STAMP = "world.json"
NUM_BROKEN = 2


def write_demo(out_dir: Path, config: DemoConfig = DEFAULT) -> Summary:
    """Make the world in `out_dir`, or leave it as it is where the same world is already there.

    It is made beside its place and moved there when it is complete.
    Raises SourceError if the folder holds anything but a demo world.
    """
    stamp = json.dumps({"version": VERSION, **dataclasses.asdict(config)}, sort_keys=True)
    stamp_path = out_dir / STAMP
    if stamp_path.is_file() and json.loads(stamp_path.read_text(encoding="utf-8"))["world"] == json.loads(stamp):
        return Summary(**json.loads(stamp_path.read_text(encoding="utf-8"))["counts"], fresh=False)
    if out_dir.exists() and any(out_dir.iterdir()) and not stamp_path.is_file():
        raise SourceError(f"{out_dir}: holds other files, expected an empty folder or an earlier demo world; name another folder")

    partial_dir = out_dir.with_name(f"{out_dir.name}.partial")
    shutil.rmtree(partial_dir, ignore_errors=True)
    (partial_dir / "media").mkdir(parents=True)
    times_s = visit_times(config, demo_events.num_visits(config))
    items, people = make_items(config, times_s), make_people(config)
    events = demo_events.simulate(config, items, people, times_s)
    broken = _broken_rows(config, items)
    if config.media:
        _write_media(partial_dir / "media", config, items, broken)
    _write_csv(partial_dir / "catalogue.csv", [column.name for column in CATALOGUE], _catalogue_rows(config, items))
    _write_csv(partial_dir / "events.csv", [column.name for column in EVENTS if column.name != "split"], events)
    _write_csv(partial_dir / "users.csv", ["user_id", "age_group"], zip(people.ids, people.age_groups))
    _write_truth(partial_dir / "truth.npz", config, items, people)

    summary = Summary(items=len(items.ids), users=len(people.ids), events=len(events), media_files=sum(map(bool, items.formats)))
    counts = {field.name: getattr(summary, field.name) for field in dataclasses.fields(Summary) if field.name != "fresh"}
    (partial_dir / STAMP).write_text(json.dumps({"world": json.loads(stamp), "counts": counts}, indent=2), encoding="utf-8")
    shutil.rmtree(out_dir, ignore_errors=True)
    partial_dir.rename(out_dir)
    return summary


def media_name(items: Items, row: int) -> str:
    """The item's media file relative to the world's folder, "" without media."""
    return f"media/{items.ids[row]}.{items.formats[row]}" if items.formats[row] else ""


def _write_media(media_dir: Path, config: DemoConfig, items: Items, broken: Sequence[int]) -> None:
    rows = [row for row, extension in enumerate(items.formats) if extension]
    for row in tqdm(rows, desc="media", unit="file", disable=None):
        path = media_dir / Path(media_name(items, row)).name
        if row in broken:
            demo_media.write_broken(path, broken.index(row))
        else:
            demo_media.write_item(config, items, row, path)


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


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any] | Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([row[column] for column in columns] if isinstance(row, dict) else row)


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
        sharpness=demo_events.CHOICE_SHARPNESS,
    )
