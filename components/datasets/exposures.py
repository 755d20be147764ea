"""Lists that people were shown, in order, for ranking examples whose negatives were seen and not taken."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class ShownLists:
    """The lists of all people, by person and time.

    Person p owns the lists `bounds[p][0]:bounds[p][1]`; list l the items `splits[l]:splits[l + 1]`.
    """

    bounds: dict[str, tuple[int, int]]  # by user id
    times_s: np.ndarray  # float64 [num_lists], seconds since 1970, ascending within a person
    splits: np.ndarray  # int64 [num_lists + 1]
    items: np.ndarray  # int32 [num_shown], rows of the catalogue in the order shown, each once in a list
    positions: np.ndarray  # int64 [num_shown], where each was seen first, from 1 on

    def __len__(self) -> int:
        """The number of lists."""
        return len(self.times_s)

    def holding(self, user_id: str, item: int, time_s: float, window_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The latest list with an item that a person was shown in the `window_s` seconds before a moment.

        Returns its items and their positions, in the order shown; None where there is none, or the moment is unknown
        (NaN).
        """
        first, last = self.bounds.get(user_id, (0, 0))
        times_s = self.times_s[first:last]
        for place in range(int(np.searchsorted(times_s, time_s, "right")) - 1, -1, -1):
            if not time_s - times_s[place] <= window_s:
                return None
            shown = slice(self.splits[first + place], self.splits[first + place + 1])
            if item in self.items[shown]:
                return self.items[shown], self.positions[shown]
        return None


def read_exposures(path: str, item_ids: Sequence[str]) -> ShownLists:
    """Reads gzipped JSON lines, a shown item each: request_id, user_id, item_id, position (from 1) and timestamp (s).

    A whole number as an id is its digits, as in the tables. What the catalogue lacks is left out, and the other items
    keep their positions. item_ids: of the catalogue's rows. Raises ValueError where a line is not such an object.
    """
    row_of_item = {item_id: row for row, item_id in enumerate(item_ids)}
    lists: dict[tuple[str, float, str], dict[int, int]] = {}  # item -> position
    for number, line in enumerate(_lines(path), 1):
        try:
            shown = json.loads(line)
            user_id, request_id, item_id = (_id(shown[name]) for name in ("user_id", "request_id", "item_id"))
            time_s, position = float(shown["timestamp"]), int(shown["position"])
            if position < 1 or not math.isfinite(time_s):
                raise ValueError(f"position {position}, timestamp {time_s}")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"{path}: line {number}: got no shown item ({error!r})") from error
        found = lists.setdefault((user_id, time_s, request_id), {})
        if (row := row_of_item.get(item_id)) is not None:
            found[row] = min(position, found.get(row, position))
    keys = sorted(lists)
    bounds: dict[str, tuple[int, int]] = {}
    for place, (user_id, _, _) in enumerate(keys):
        bounds[user_id] = (bounds.get(user_id, (place, 0))[0], place + 1)
    ordered = [sorted((position, item) for item, position in lists[key].items()) for key in keys]
    return ShownLists(
        bounds,
        np.array([time_s for _, time_s, _ in keys], np.float64),
        np.cumsum([0, *map(len, ordered)], dtype=np.int64),
        np.array([item for shown in ordered for _, item in shown], np.int32),
        np.array([position for shown in ordered for position, _ in shown], np.int64),
    )


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f"an id is a text or a whole number, got {value!r}")
    return str(value)


def _lines(path: str) -> Iterator[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
        yield from unpacked
