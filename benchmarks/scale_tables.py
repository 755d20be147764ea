"""A made catalogue and a table of ratings of any size, in the proportions of MovieLens-20M.

144 ratings a person with a heavy tail, items' popularity along a shifted power law whose first item takes three of a
thousand ratings (Mandelbrot's law), times spread evenly. People have one of ten tastes and take most of what they take
from the tenth of the catalogue that is of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

EVENTS_PER_PERSON, MOVIELENS_ITEMS = 144, 26_744
FIRST_S, LAST_S = 789_652_009, 1_427_784_002  # MovieLens-20M's first and last rating
ROWS_AT_ONCE = 1_000_000
TASTES, OWN_TASTE = 10, 0.6  # and the share of what a person takes from it
ACTIVITY_POWER, MOST_ACTIVE = 1.2, 150  # Pareto's exponent; the most active by the least active person
POPULARITY_POWER, POPULARITY_SHIFT = 1.2, 10  # of an item among those of its taste: 1 / (rank + shift) ** power
RATINGS_OF_OWN, RATINGS_OF_OTHERS = (0.05, 0.1, 0.2, 0.35, 0.3), (0.15, 0.25, 0.3, 0.2, 0.1)  # chances of 1 to 5
WORDS = 2_000


def make(folder: Path, num_events: int, num_items: int) -> tuple[Path, Path]:
    """Write a catalogue and a table of events as Parquet, the same for the same numbers; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    catalogue, events = folder / "catalogue.parquet", folder / "events.parquet"
    pyarrow.parquet.write_table(_catalogue(num_items), catalogue)
    chunks = _events(num_events, num_items)
    first = next(chunks)
    with pyarrow.parquet.ParquetWriter(events, first.schema) as parquet:
        for chunk in (first, *chunks):
            parquet.write_table(chunk)
    return catalogue, events


def _catalogue(num_items: int) -> pa.Table:
    """Three words and a number as title, a creator, the taste and another one as tags."""
    rng = np.random.default_rng(1)
    items = np.arange(num_items)
    words = (WORDS ** rng.random((num_items, 3))).astype(int).astype(str)
    others = rng.integers(0, TASTES, num_items)
    return pa.table(
        {
            "item_id": items.astype(str),
            "title": [" ".join(f"word{word}" for word in title) for title in words],
            "creator": [f"creator{number}" for number in (num_items ** rng.random(num_items)).astype(int)],
            "tags": [[f"taste{own}", f"also{other}"] for own, other in zip(items % TASTES, others)],
        }
    )


def _events(num_events: int, num_items: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    num_people = max(num_events // EVENTS_PER_PERSON, 1)
    by_person = np.cumsum(np.minimum(rng.pareto(ACTIVITY_POWER, num_people) + 1, MOST_ACTIVE))
    taste_of = rng.integers(0, TASTES, num_people)
    per_taste = num_items // TASTES
    by_rank = np.cumsum((np.arange(per_taste) + POPULARITY_SHIFT) ** -POPULARITY_POWER)
    ratings = np.cumsum([RATINGS_OF_OTHERS, RATINGS_OF_OWN], axis=1)
    for start in range(0, num_events, ROWS_AT_ONCE):
        number = min(ROWS_AT_ONCE, num_events - start)
        people = np.searchsorted(by_person, rng.random(number) * by_person[-1])
        tastes = np.where(rng.random(number) < OWN_TASTE, taste_of[people], rng.integers(0, TASTES, number))
        ranks = np.searchsorted(by_rank, rng.random(number) * by_rank[-1])
        chances = ratings[(tastes == taste_of[people]).astype(int)]
        span = (LAST_S - FIRST_S) / num_events
        times = np.sort(rng.random(number)) * number + start
        yield pa.table(
            {
                "user_id": people,
                "item_id": ranks * TASTES + tastes,
                "timestamp": (FIRST_S + times * span).astype(np.int64),
                "event": pa.array(["rating"] * number),
                "value": 1.0 + (rng.random(number)[:, None] > chances[:, :4]).sum(axis=1),
            }
        )
