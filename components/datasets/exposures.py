"""Lists that people were shown, in order, for ranking examples whose negatives were seen and not taken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    items: np.ndarray  # int32 [num_shown], rows of the catalogue in the order shown, -1 where it has no such item

    def __len__(self) -> int:
        """The number of lists."""
        return len(self.times_s)

    def holding(self, user_id: str, item: int, time_s: float, window_s: float) -> np.ndarray | None:
        """The latest list with an item that a person was shown in the `window_s` seconds before a moment.

        Returns int32 [num_shown], in the order shown; None where there is none, or the moment is unknown (NaN).
        """
        first, last = self.bounds.get(user_id, (0, 0))
        times_s = self.times_s[first:last]
        for place in range(int(np.searchsorted(times_s, time_s, "right")) - 1, -1, -1):
            if not time_s - times_s[place] <= window_s:
                return None
            shown = self.items[self.splits[first + place] : self.splits[first + place + 1]]
            if item in shown:
                return shown
        return None


def read_exposures(path: str, item_ids: Sequence[str]) -> ShownLists:
    """Reads gzipped JSON lines, a shown item each: request_id, user_id, item_id, position (from 1) and timestamp (s).

    item_ids: of the catalogue's rows. Raises ValueError where a line is not such an object.
    """
    row_of_item = {item_id: row for row, item_id in enumerate(item_ids)}
    lists: dict[tuple[str, float, str], list[tuple[int, int]]] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            shown = json.loads(line)
            key = (shown["user_id"], float(shown["timestamp"]), shown["request_id"])
            lists.setdefault(key, []).append((int(shown["position"]), row_of_item.get(shown["item_id"], -1)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number}: got no shown item ({error!r})") from error
    keys = sorted(lists)
    bounds: dict[str, tuple[int, int]] = {}
    for place, (user_id, _, _) in enumerate(keys):
        bounds[user_id] = (bounds.get(user_id, (place, 0))[0], place + 1)
    ordered = [[item for _, item in sorted(lists[key])] for key in keys]
    return ShownLists(
        bounds,
        np.array([time_s for _, time_s, _ in keys], np.float64),
        np.cumsum([0, *map(len, ordered)], dtype=np.int64),
        np.array([item for items in ordered for item in items], np.int32),
    )


def _lines(path: str) -> Iterator[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
        yield from unpacked
