"""Last.fm-2K (HetRec 2011, 5-core) with the text and audio of every artist, as the three tables."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources.folder import write_csv, write_once
from pipeline.sources.summary import SourceError, Summary

VERSION = 1
EMBEDDINGS = {"vggish": "vggish.npy", "whisper": "whisper.npy", "minilm": "all-MiniLM-L6-v2.npy"}  # column: file
FILES = ("interactions.csv", "artists.csv", *EMBEDDINGS.values())
WHAT_TO_GET = (
    "the folder of the HetRec 2011 Last.fm data prepared with content: interactions.csv (user_id, item_id, split), "
    f"artists.csv (item_id, name, tags, row) and the arrays {', '.join(EMBEDDINGS.values())}, one line an artist; "
    "its licence allows non-commercial use and no copy of it comes with this project"
)


def write_lastfm_2k(out_dir: Path, source: Path) -> Summary:
    """Write `catalogue.parquet` (tags and `embedding:<name>` as lists), `events.csv` (no times; the split as given)
    and `users.csv`.

    An artist's tags come most used first, so that a reader of the first few keeps those that say something about other
    artists too.
    Raises SourceError if a file is missing or the arrays do not fit the table.
    """
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise SourceError(
            f"{source}: got a folder without {', '.join(missing)}, expected {', '.join(FILES)}; get {WHAT_TO_GET}"
        )
    digest = hashlib.blake2b(digest_size=16)
    for name in FILES:
        digest.update((source / name).read_bytes())

    def make(folder: Path) -> Summary:
        artists = _read(source / "artists.csv", ("item_id", "name", "tags", "row"))
        interactions = _read(source / "interactions.csv", ("user_id", "item_id", "split"))
        pq.write_table(_catalogue(source, artists), folder / "catalogue.parquet")
        events = ([row["user_id"], row["item_id"], "play", row["split"]] for row in interactions)
        users = list(dict.fromkeys(row["user_id"] for row in interactions))
        return Summary(
            items=len(artists),
            users=write_csv(folder / "users.csv", ("user_id",), ([user_id] for user_id in users)),
            events=write_csv(folder / "events.csv", ("user_id", "item_id", "event", "split"), events),
        )

    return write_once(out_dir, {"source": "lastfm-2k", "version": VERSION, "content": digest.hexdigest()}, make)


def _catalogue(source: Path, artists: list[dict[str, str]]) -> pa.Table:
    tags = [[tag for tag in artist["tags"].split(",") if tag] for artist in artists]
    uses = Counter(tag for of_artist in tags for tag in of_artist)
    columns = {
        "item_id": pa.array([artist["item_id"] for artist in artists], pa.string()),
        "title": pa.array([artist["name"] or None for artist in artists], pa.string()),
        "tags": pa.array(
            [sorted(of_artist, key=lambda tag: (-uses[tag], tag)) for of_artist in tags], pa.list_(pa.string())
        ),
        "domain": pa.array(["music"] * len(artists), pa.string()),
    }
    rows = [int(artist["row"]) for artist in artists]
    for name, file_name in EMBEDDINGS.items():
        array = np.load(source / file_name)
        if array.ndim != 2 or len(array) != len(artists):
            raise SourceError(
                f"{source / file_name}: got shape {array.shape}, expected a line for each of the {len(artists)} artists"
            )
        columns[f"embedding:{name}"] = pa.array(list(array[rows].astype(np.float32)), pa.list_(pa.float32()))
    return pa.table(columns)


def _read(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise SourceError(
                f"{path}: got the columns {reader.fieldnames}, expected {', '.join(columns)}; get {WHAT_TO_GET}"
            )
        return list(reader)
