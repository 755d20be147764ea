"""A page to listen to: the nearest neighbours of a few items by content, by behaviour and by both, in players of the
catalogue's own files.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from components.config import DataConfig
from components.contract import BEHAVIOUR, BOTH, CONTENT
from components.datasets.interactions import latest, read_interactions
from components.events.splits import SPLITS
from components.media.addresses import MediaRoots, is_address
from components.media.errors import MediaError
from pipeline.records import examples_of, text
from pipeline.report.items import Look, read_looks
from pipeline.report.page import write_template
from pipeline.run_history import RunRecord

PAGE = "neighbours.html"
ITEMS, NEIGHBOURS = 10, 10
_VIDEO = (".mp4", ".m4v", ".webm", ".mkv", ".mov", ".avi")
WAYS = {CONTENT: "Sound, look and words", BEHAVIOUR: "Taken together", BOTH: "Both"}


@dataclass(frozen=True)
class Card:
    """One item as it is shown and played."""

    item_id: str
    title: str = ""
    domain: str = ""
    creator: str = ""
    tags: tuple[str, ...] = ()
    plays: int = 0  # positive interactions of all splits
    medium: str = ""  # its file, relative to the page; empty where it has none on this machine
    look: Look = Look()

    @property
    def is_video(self) -> bool:
        """Whether the medium has pictures, by its name."""
        return self.medium.lower().endswith(_VIDEO)


@dataclass(frozen=True)
class Neighbours:
    """An item and its nearest ones by one way: what really orders them, and each with its score."""

    way: str  # as the page names it
    told_by: str  # as asked for, or both where the item has no such vector
    found: list[tuple[Card, float]]


def write_neighbours(run: RunRecord, data: DataConfig, folder: Path) -> Path | None:
    """Write the page beside the report in `folder`; None where the run has no servable that tells them, or its
    catalogue no media.
    """
    servable, catalogue = run.output("Recommender", "exact"), run.output("CatalogGen", "examples")
    sequences = run.output("Interactions", "sequences")
    if servable is None or catalogue is None or sequences is None:
        return None
    cards = _cards(catalogue, MediaRoots(data.media_root, data.media_roots), folder)
    if not any(card.medium for card in cards.values()):
        return None
    plays = _plays(sequences, list(cards))
    cards = {item_id: replace(card, plays=plays[item_id]) for item_id, card in cards.items()}
    chosen = spread([card for card in cards.values() if card.medium], ITEMS)
    lists = _ask(servable / "Format-Serving", [card.item_id for card in chosen])
    if not lists:
        return None
    shown = {item_id for of_item in lists for _, found in of_item.values() for item_id, _ in found}
    looks = read_looks(run, shown | {card.item_id for card in chosen})

    def seen(item_id: str) -> Card:
        card = cards.get(item_id, Card(item_id, item_id))
        return replace(card, look=looks.get(item_id, Look()))

    items = [
        (
            seen(card.item_id),
            [
                Neighbours(WAYS[way], WAYS[told_by], [(seen(item_id), score) for item_id, score in found])
                for way, (told_by, found) in of_item.items()
            ],
        )
        for card, of_item in zip(chosen, lists)
    ]
    return write_template("neighbours.html", folder / PAGE, run=run, items=items)


def spread(cards: Sequence[Card], count: int) -> list[Card]:
    """So many items, as many of each domain as can be, and in each from the most to the least taken, evenly.

    Of more domains than places the largest ones.
    """
    sizes = Counter(card.domain for card in cards)
    domains = sorted(sizes, key=lambda domain: (-sizes[domain], domain))[:count]
    places: Counter[str] = Counter()
    in_turn = (domain for turn in range(count) for domain in domains if turn < sizes[domain])
    places.update(itertools.islice(in_turn, count))
    chosen = []
    for domain in sorted(domains):
        ranked = sorted((card for card in cards if card.domain == domain), key=lambda card: (-card.plays, card.item_id))
        rows = np.linspace(0, len(ranked) - 1, places[domain]).round().astype(int)
        chosen += [ranked[row] for row in rows]
    return chosen


def _plays(sequences: Path, item_ids: list[str]) -> dict[str, int]:
    """Positive interactions by item, of everybody."""
    folders = [folder for folder in (sequences / f"Split-{split}" for split in SPLITS) if folder.is_dir()]
    people = latest([read_interactions(str(folder), item_ids) for folder in folders])
    return dict(zip(item_ids, people.counts(len(item_ids)).tolist()))


def _cards(catalogue: Path, roots: MediaRoots, folder: Path) -> dict[str, Card]:
    """Every item of the catalogue by id, without its plays and its look."""
    found = {}
    for features in examples_of(catalogue):
        item_id = text(features, "item_id")
        tags = features["tags"].bytes_list.value if "tags" in features else ()
        found[item_id] = Card(
            item_id,
            text(features, "title") or item_id,
            text(features, "domain"),
            text(features, "creator"),
            tuple(tag.decode("utf-8", "replace") for tag in tags),
            medium=_address(text(features, "media_uri"), roots, folder),
        )
    return found


def _address(media_uri: str, roots: MediaRoots, folder: Path) -> str:
    """A local medium's address relative to the page, so that both can be moved together; empty where there is none."""
    try:
        place = roots.place(media_uri) if media_uri else ""
    except MediaError:
        return ""
    if not place or is_address(place) or not Path(place).is_file():
        return ""
    return quote(os.path.relpath(place, folder.resolve()))


def _ask(servable: Path, item_ids: Sequence[str]) -> list[dict[str, tuple[str, list[tuple[str, float]]]]]:
    """For each item, by each way: what orders the list, and its ids and scores, best first."""
    import tensorflow as tf

    from serving.loaded import load_once

    similar = load_once(str(servable)).signatures["similar"]
    specs = similar.structured_input_signature[1]
    if "by" not in specs:  # a run of an earlier release
        return []
    size = len(item_ids)
    silent = {name: tf.zeros([size, *[0] * (spec.shape.rank - 1)], spec.dtype) for name, spec in specs.items()}
    asked = silent | {"item_id": tf.constant(list(item_ids)), "k": tf.fill([size], NEIGHBOURS)}
    lists: list[dict[str, tuple[str, list[tuple[str, float]]]]] = [{} for _ in item_ids]
    for way in WAYS:
        answer = {name: value.numpy() for name, value in similar(**asked | {"by": tf.constant([way])}).items()}
        columns = (answer[name] for name in ("by", "item_ids", "scores", "count"))
        for of_item, (told_by, ids, scores, count) in zip(lists, zip(*columns)):
            found = zip(ids[:count], scores[:count])
            of_item[way] = told_by.decode(), [(item.decode("utf-8", "replace"), float(score)) for item, score in found]
    return lists
