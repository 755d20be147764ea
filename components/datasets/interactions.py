"""Users' interactions as arrays, and the window: the last interactions of a user before a moment.

Training, index, evaluation, ranking examples and the stored histories all read the artifact `Interactions` here and
look back in time through `window` alone, or through `flat_window`, which is the same without padding; so what a model
is trained on is what it is served (docs/decisions/0040-one-window.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from components.datasets.columns import Columns, rows_in_blocks
from components.datasets.sequence_files import parsed_users
from components.datasets.sparse import chosen_pairs

PADDING = 0  # code of an event that is not there
UNKNOWN_EVENT = 1  # code of an event that `event_names` does not list; the listed ones follow in their order
FIRST_EVENT = 2  # code of the first of them
MOST_JUDGED = 20_000  # users of a split whose lists are judged: of more, a part tells as much
_INTERACTIONS_AT_ONCE = 1_000_000
_COLUMNS = {
    "items": np.int32,
    "events": np.int32,
    "times_s": np.float64,
    "weights": np.float32,
    "positives": np.bool_,
    "values": np.float32,
}


@dataclass(frozen=True)
class Interactions:
    """The interactions of all users of one split, user after user in the order of their ids, each oldest first.

    User u owns the rows `splits[u]:splits[u + 1]` of the columns.
    """

    user_ids: list[str]
    splits: np.ndarray  # int64 [num_users + 1]
    items: np.ndarray  # int32 [num_interactions], rows of the catalogue
    events: np.ndarray  # int32 [num_interactions], FIRST_EVENT and the place in `event_names`, or UNKNOWN_EVENT
    event_names: tuple[str, ...]
    times_s: np.ndarray  # float64 [num_interactions], seconds since 1970, NaN where unknown
    weights: np.ndarray  # float32 [num_interactions], strength by the event rules
    positives: np.ndarray  # bool [num_interactions], whether it is a target
    values: np.ndarray  # float32 [num_interactions], as a rating; NaN where absent
    num_history: np.ndarray  # int64 [num_users], the first so many are history, the rest belong to the split
    ordered: np.ndarray  # bool [num_users], False = a set without order
    user_feature_rows: np.ndarray | None = (
        None  # int32 [num_users], rows of the features of users; None = there are none
    )

    def __len__(self) -> int:
        """The number of users."""
        return len(self.user_ids)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [num_users], the interactions of each user."""
        return np.diff(self.splits)

    @property
    def user_rows(self) -> np.ndarray:
        """int64 [num_interactions], whose interaction each is."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def is_history(self) -> np.ndarray:
        """bool [num_interactions], whether each is history rather than of the split itself."""
        return np.arange(len(self.items)) < np.repeat(self.splits[:-1] + self.num_history, self.lengths)

    @property
    def is_first(self) -> np.ndarray:
        """bool [num_interactions], whether each is the user's first with the item."""
        found, width = np.zeros(len(self.items), bool), int(self.items.max(initial=0)) + 1
        for users in self.blocks(_INTERACTIONS_AT_ONCE):
            first, last = self.splits[users[0]], self.splits[users[-1] + 1]
            rows = np.repeat(np.arange(len(users)), self.lengths[users])
            _, firsts = np.unique(rows * width + self.items[first:last], return_index=True)
            found[first + firsts] = True
        return found

    def event_texts(self, codes: np.ndarray) -> np.ndarray:
        """Names of event codes of any shape, "" for PADDING: object, str."""
        return np.array(["", "", *self.event_names], object)[codes]

    def feature_rows(self, users: np.ndarray) -> np.ndarray:
        """Rows of the features of users: int32 [B], 0 where nothing is known beside the histories. users: int [B]."""
        return np.zeros(len(users), np.int32) if self.user_feature_rows is None else self.user_feature_rows[users]

    def matrix(self, chosen: np.ndarray, num_items: int) -> sp.csr_matrix:
        """1 where a user has a chosen interaction with an item: float64 [num_users, num_items].

        chosen: bool [num_interactions].
        """
        return chosen_pairs(self.items, chosen, self.splits, num_items).astype(np.float64)

    def counts(self, num_items: int) -> np.ndarray:
        """Positive interactions of each item: int64 [num_items]."""
        total = np.zeros(num_items, np.int64)
        for start in range(0, len(self.items), _INTERACTIONS_AT_ONCE):
            part = slice(start, start + _INTERACTIONS_AT_ONCE)
            total += np.bincount(self.items[part][self.positives[part]], minlength=num_items)
        return total

    def first_event_s(self, num_items: int) -> np.ndarray:
        """The time of the first interaction with each item: float64 [num_items], NaN where none has a time."""
        first = np.full(num_items, np.nan)
        np.fmin.at(first, self.items, self.times_s)
        return first

    def blocks(self, most_interactions: int) -> Iterator[np.ndarray]:
        """The rows of all users, in ascending blocks of at most so many interactions or of one user with more."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.splits, self.splits[start] + most_interactions, "right")) - 1
            stop = min(max(stop, start + 1), len(self))
            yield np.arange(start, stop)
            start = stop

    def select(self, users: np.ndarray) -> Interactions:
        """The interactions of some users alone, in the order given; one may come twice. users: int [B]."""
        users = np.asarray(users, np.int64)
        at = _rows_of(self.splits, users)
        return replace(
            self,
            user_ids=[self.user_ids[user] for user in users],
            splits=_splits(self.lengths[users]),
            num_history=self.num_history[users],
            ordered=self.ordered[users],
            user_feature_rows=None if self.user_feature_rows is None else self.user_feature_rows[users],
            **{name: getattr(self, name)[at] for name in _COLUMNS},
        )

    def at_most(self, num_users: int) -> Interactions:
        """The same, or of more users so many evenly spaced ones, the same ones each time."""
        if len(self) <= num_users:
            return self
        return self.select(np.linspace(0, len(self) - 1, num_users).astype(np.int64))

    def asked_at_s(self, users: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """The moment before which users have `stops` interactions: the time of the next one, else of the last.

        users, stops: int [B]. Returns float64 [B], NaN where that is unknown.
        """
        starts, ends = self.splits[users], self.splits[users] + stops
        at = np.where(ends < self.splits[np.asarray(users) + 1], ends, ends - 1)
        return _pick(self.times_s, at, at >= starts, np.nan)


class Window(NamedTuple):
    """The last interactions of some users before a moment, oldest first, padded at the end.

    All are [num_users, longest], of which the longest window has none of padding; there is at least one column.
    """

    at: np.ndarray  # int64, rows of the interactions, 0 where padded
    is_there: np.ndarray  # bool, False where padded
    items: np.ndarray  # int32, rows of the catalogue, -1 where padded
    events: np.ndarray  # int32, codes, PADDING where padded
    age_s: np.ndarray  # float32, seconds from the interaction to the moment, 0 where padded or unknown

    def pick(self, column: np.ndarray, fill: float | bool) -> np.ndarray:
        """The values of a column of the interactions, `fill` where padded: [num_users, longest]."""
        return _pick(column, self.at, self.is_there, fill)


def window(
    interactions: Interactions,
    users: np.ndarray,
    stops: np.ndarray,
    length: int,
    moments_s: np.ndarray | None = None,
) -> Window:
    """The last `length` interactions of each user before a moment, with their ages at that moment.

    users: int [B], rows of users. stops: int [B], how many interactions of the user lie before the moment. moments_s:
    float64 [B], seconds since 1970, NaN = unknown; by default `asked_at_s`.
    """
    users, stops = np.asarray(users, np.int64), np.asarray(stops, np.int64)
    moments_s = interactions.asked_at_s(users, stops) if moments_s is None else moments_s
    lengths = np.minimum(stops, length)
    offsets = np.arange(max(int(lengths.max(initial=0)), 1))
    is_there = offsets < lengths[:, None]
    at = np.where(is_there, (interactions.splits[users] + stops - lengths)[:, None] + offsets, 0)
    return Window(
        at,
        is_there,
        items=_pick(interactions.items, at, is_there, -1),
        events=_pick(interactions.events, at, is_there, PADDING),
        age_s=ages_s(_pick(interactions.times_s, at, is_there, np.nan), moments_s[:, None]),
    )


def training_windows(interactions: Interactions, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the interactions of each user, from the latest on, into windows of at most `length`: each is in one.

    Returns users int64 [num_windows], ascending, and stops int64 [num_windows], as `window` takes them.
    """
    per_user = -(-interactions.lengths // length)
    users = np.repeat(np.arange(len(interactions)), per_user)
    later = np.repeat(np.cumsum(per_user), per_user) - 1 - np.arange(len(users))  # windows of the user after this one
    return users, interactions.lengths[users] - later * length


def ages_s(times_s: np.ndarray, moments_s: np.ndarray | float) -> np.ndarray:
    """Seconds from events to moments: float32, 0 where either is unknown or the event is the later one.

    times_s, moments_s: float64 of shapes that broadcast, seconds since 1970, NaN = unknown.
    """
    return np.nan_to_num(np.maximum(moments_s - times_s, 0)).astype(np.float32)


def read_interactions(
    patterns: str | Sequence[str],
    item_ids: Sequence[str] | Sequence[bytes],
    event_names: Sequence[str] | None = None,
    folder: Path | None = None,
) -> Interactions:
    """Read the sequence examples of a split, some users in memory at a time; users stand in the order of their ids.

    patterns: TFRecord files or folders. item_ids: of the catalogue's rows. event_names: the kinds of events that have a
    code; by default all that are found, in alphabetical order. folder: where the columns are written to be mapped from
    there; in memory by default.
    Raises ValueError where an interaction's item is not in the catalogue: the artifacts are not of one run.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    ids = [tf.compat.as_bytes(item_id) for item_id in item_ids]
    code_of_event = {name.encode(): code for code, name in enumerate(event_names or (), FIRST_EVENT)}

    def code_of(name: bytes) -> int:
        if event_names is None:
            return code_of_event.setdefault(name, FIRST_EVENT + len(code_of_event))
        return code_of_event.get(name, UNKNOWN_EVENT)

    user_ids: list[bytes] = []
    of_users: dict[str, list[np.ndarray]] = {"lengths": [], "num_history": [], "ordered": []}
    with Columns(_COLUMNS, folder) as columns:
        for users in parsed_users(patterns, ids):
            codes = np.array([code_of(name) for name in users.event_names], np.int32)
            columns.append(**{**users._asdict(), "events": codes[users.events]})
            user_ids += users.user_ids
            for name, parts in of_users.items():
                parts.append(getattr(users, name))
        lengths, num_history, ordered = (
            np.concatenate([np.zeros(0, dtype), *parts])
            for dtype, parts in zip((np.int64, np.int64, bool), of_users.values())
        )
        order = np.array(sorted(range(len(user_ids)), key=user_ids.__getitem__), np.int64)
        flat = columns.rearranged(_splits(lengths), order)
    found = Interactions(
        user_ids=[user_ids[row].decode() for row in order],
        splits=_splits(lengths[order]),
        event_names=tuple(name.decode() for name in code_of_event),
        num_history=num_history[order],
        ordered=ordered[order],
        **flat,
    )
    return found if event_names is not None else _renamed(found, tuple(sorted(found.event_names)))


def _splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def latest(splits: Sequence[Interactions]) -> Interactions:
    """All that is known of everyone: each user's interactions of the last split, whose history is the earlier ones.

    splits: in the order of time, of one catalogue.
    """
    found = dict.fromkeys(split.event_names for split in splits)
    names = next(iter(found)) if len(found) == 1 else tuple(sorted({name for each in found for name in each}))
    parts = [_renamed(split, names) for split in splits]
    last = {user_id: (part, row) for part, split in enumerate(parts) for row, user_id in enumerate(split.user_ids)}
    user_ids = sorted(last)
    part_of, row_of = np.array([last[user_id] for user_id in user_ids], np.int64).reshape(-1, 2).T
    users_of = [np.flatnonzero(part_of == number) for number in range(len(parts))]
    lengths = np.zeros(len(user_ids), np.int64)
    for part, users in zip(parts, users_of):
        lengths[users] = part.lengths[row_of[users]]
    whole = Interactions(
        user_ids=user_ids,
        splits=_splits(lengths),
        event_names=names,
        num_history=np.zeros(len(user_ids), np.int64),
        ordered=np.zeros(len(user_ids), bool),
        **{name: np.empty(lengths.sum(), dtype) for name, dtype in _COLUMNS.items()},
    )
    for part, users in zip(parts, users_of):
        for to, at in zip(rows_in_blocks(whole.splits, users), rows_in_blocks(part.splits, row_of[users])):
            for name in _COLUMNS:
                getattr(whole, name)[to] = getattr(part, name)[at]
        for name in ("num_history", "ordered"):
            getattr(whole, name)[users] = getattr(part, name)[row_of[users]]
    return whole


def _rows_of(splits: np.ndarray, users: np.ndarray) -> np.ndarray:
    """The rows of some users' interactions, user after user: int64 [n]. splits: int64 [num_users + 1]."""
    lengths = np.diff(splits)[users]
    return np.repeat(splits[users] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())


def _renamed(interactions: Interactions, event_names: tuple[str, ...]) -> Interactions:
    """The same with other codes. event_names: all of those that occur, and maybe more."""
    if event_names == interactions.event_names:
        return interactions
    codes = [event_names.index(name) + FIRST_EVENT for name in interactions.event_names]
    new_code = np.array([PADDING, UNKNOWN_EVENT, *codes], np.int32)
    return replace(interactions, events=new_code[interactions.events], event_names=event_names)


def _pick(column: np.ndarray, at: np.ndarray, is_there: np.ndarray, fill: float | bool) -> np.ndarray:
    """The values of a column at some places, `fill` where nothing is there. at, is_there: [...] alike."""
    picked = np.full(at.shape, fill, column.dtype)
    picked[is_there] = column[at[is_there]]
    return picked
