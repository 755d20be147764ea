"""The events of many users to their sequences, as columns: what `sequences.user_sequences` says of each user alone.

Events are sorted once, by user and then as there; parts and visits are runs in that order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from components.batches import coded, column, numbers_of
from components.config import EventRule, SplitConfig
from components.events.splits import GIVEN_SPLITS, SPLITS, Cuts, Split, fold_in_cut, last_cuts, stable_share, user_split
from components.example_records import ListColumn, serialized_lists


class _Events(NamedTuple):
    """Events by user, and of a user in their order; [events] each."""

    user: np.ndarray  # int64, place in `user_ids`, as the others
    item: np.ndarray
    event: np.ndarray
    value: np.ndarray  # float64, NaN where absent
    time_s: np.ndarray  # int64, 0 where there is none
    given: np.ndarray  # place in `splits`

    def at(self, rows: np.ndarray) -> _Events:
        return _Events(*(values[rows] for values in self))


class _Names(NamedTuple):
    """Sorted texts behind the codes of events."""

    user_ids: list[str]
    item_ids: list[str]
    events: list[str]
    splits: list[str]


class _Roles(NamedTuple):
    """What each event is to one split: bool [events]; neither where the split does not know of it."""

    history: np.ndarray
    own: np.ndarray


def sequence_records(
    rows: pa.Table, rules: Mapping[str, EventRule], split: SplitConfig, cuts: Cuts | None
) -> Iterator[tuple[Split, list[bytes]]]:
    """(split, its sequences as serialized Examples, by user) of all events of some users.

    rows: user_id, item_id, event, split (text), timestamp (int64), value (float32); all have a timestamp, or none.
    cuts: of the whole table, for split.kind "time".
    """
    events, names = _coded_events(rows)
    is_timed = rows["timestamp"].null_count == 0
    weights = np.array([rules[name].weight for name in names.events])
    events = _in_order(events, names, weights)
    moments = events.time_s if is_timed else _ranks(events)
    starts = _starts(events.user)
    roles = _held_out(events, moments, starts, names, split) if split.kind == "user" else None
    parts = _parts(events, moments, starts, names, split, cuts) if roles is None else np.zeros(0)
    for number, name in enumerate(SPLITS):
        role = roles[number] if roles else _Roles(parts < number, parts == number)
        yield name, _records(events, role, names, weights, rules, is_timed)


def _coded_events(rows: pa.Table) -> tuple[_Events, _Names]:
    coded_columns = {name: _ranked(rows[name]) for name in ("user_id", "item_id", "event", "split")}
    (users, user), (items, item), (kinds, event), (splits, given) = coded_columns.values()
    value = numbers_of(column(rows, "value"), math.nan).astype(np.float64)
    time_s = numbers_of(column(rows, "timestamp"), 0).astype(np.int64)
    return _Events(user, item, event, value, time_s, given), _Names(users, items, kinds, splits)


def _ranked(values: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct texts, sorted, and the rank of each value, int64 [rows]; a null stands after the last."""
    distinct, codes = coded(values)
    texts = distinct.to_pylist()
    order = sorted(range(len(texts)), key=texts.__getitem__)
    ranks = np.empty(len(texts) + 1, np.int64)
    ranks[order] = np.arange(len(texts))
    ranks[-1] = len(texts)
    return [texts[place] for place in order], ranks[codes]


def _in_order(events: _Events, names: _Names, weights: np.ndarray) -> _Events:
    """Sorted as `sequences._in_order`, without exact copies."""
    value = np.where(np.isnan(events.value), -math.inf, events.value)
    finest = (events.given, value, events.event, weights[events.event], events.item)
    order = np.lexsort((*finest, _shares(events, names), events.time_s, events.user))
    keys = (events.user, events.time_s, events.item, events.event, value, events.given)
    is_first = np.zeros(len(order), bool)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= key[order][1:] != key[order][:-1]
    return events.at(order[is_first])


def _shares(events: _Events, names: _Names) -> np.ndarray:
    """The stable hash of user and item, float64 [events]; 0 where no other item has the same moment."""
    order = np.lexsort((events.item, events.time_s, events.user))
    user, time_s, item = events.user[order], events.time_s[order], events.item[order]
    moments, items = _starts(user, time_s), _starts(user, time_s, item)
    num_items = np.diff(np.searchsorted(items, moments), append=len(items))
    tied = order[np.repeat(num_items > 1, np.diff(moments, append=len(order)))]
    shares = np.zeros(len(order))
    pairs = zip(events.user[tied].tolist(), events.item[tied].tolist())
    shares[tied] = [stable_share(names.user_ids[user], names.item_ids[item]) for user, item in pairs]
    return shares


def _starts(*keys: np.ndarray) -> np.ndarray:
    """Where runs of equal keys begin, int64 [runs]."""
    is_start = np.ones(len(keys[0]), bool)
    is_start[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(is_start)


def _ranks(events: _Events) -> np.ndarray:
    """Of events without time the rank of their item among the user's, int64 [events]."""
    runs = _starts(events.user, events.item)
    run_of_event = np.repeat(np.arange(len(runs)), np.diff(runs, append=len(events.user)))
    first_of_user = np.searchsorted(events.user, events.user)
    return run_of_event - run_of_event[first_of_user]


def _parts(
    events: _Events, moments: np.ndarray, starts: np.ndarray, names: _Names, split: SplitConfig, cuts: Cuts | None
) -> np.ndarray:
    """The split of each event, as its place in SPLITS."""
    if split.kind == "given":
        return np.array([SPLITS.index(GIVEN_SPLITS[name]) for name in names.splits])[events.given]
    eval_from: float | np.ndarray
    test_from: float | np.ndarray
    if split.kind == "time_per_user":
        ends = [*starts[1:].tolist(), len(moments)]
        of_users = [last_cuts(moments[start:end].tolist(), split) for start, end in zip(starts.tolist(), ends)]
        eval_from, test_from = np.array(of_users, np.float64)[events.user].T
    else:
        assert cuts is not None, "split.kind time needs the cuts of the whole table"
        eval_from, test_from = cuts
    return np.where(moments < eval_from, 0, np.where(moments < test_from, 1, 2))


def _held_out(
    events: _Events, moments: np.ndarray, starts: np.ndarray, names: _Names, split: SplitConfig
) -> list[_Roles]:
    ends = [*starts[1:].tolist(), len(moments)]
    of_user = np.array([SPLITS.index(user_split(user_id, split)) for user_id in names.user_ids])
    first_own = [
        fold_in_cut(moments[start:end].tolist()) if part else -math.inf
        for part, start, end in zip(of_user.tolist(), starts.tolist(), ends)
    ]
    is_own, part = moments >= np.array(first_own)[events.user], of_user[events.user]
    return [_Roles((part == number) & ~is_own, (part == number) & is_own) for number in range(len(SPLITS))]


def _records(
    events: _Events,
    roles: _Roles,
    names: _Names,
    weights: np.ndarray,
    rules: Mapping[str, EventRule],
    is_timed: bool,
) -> list[bytes]:
    """The sequences of one split, a user each who has an event of their own in it."""
    has_own = np.zeros(len(names.user_ids), bool)
    has_own[events.user[roles.own]] = True
    rows = np.flatnonzero((roles.history | roles.own) & has_own[events.user])
    if not len(rows):
        return []
    rows = rows[np.lexsort((roles.own[rows], events.user[rows]))]
    events, is_own = events.at(rows), roles.own[rows]
    first = _starts(events.user, is_own, events.item)
    last = np.append(first[1:], len(rows)) - 1
    visits = events.at(_strongest(weights[events.event], first))
    starts = _starts(visits.user)
    each = np.arange(len(starts))
    num_history = np.add.reduceat(~is_own[first], starts, dtype=np.int64)
    times = (events.time_s[last], starts) if is_timed else (np.zeros(0, np.int64), np.zeros(len(starts), np.int64))
    return serialized_lists(
        {
            "user_id": ListColumn.of_texts(names.user_ids, visits.user[starts], each),
            "item_ids": ListColumn.of_texts(names.item_ids, visits.item, starts),
            "events": ListColumn.of_texts(names.events, visits.event, starts),
            "timestamps_s": ListColumn.of_ints(*times),
            "values": ListColumn.of_floats(visits.value, starts),
            "weights": ListColumn.of_floats(weights[visits.event], starts),
            "positives": ListColumn.of_ints(_positives(visits, names, rules), starts),
            "num_history": ListColumn.of_ints(num_history, each),
            "ordered": ListColumn.of_ints(np.full(len(starts), is_timed), each),
        }
    )


def _positives(visits: _Events, names: _Names, rules: Mapping[str, EventRule]) -> np.ndarray:
    """Whether each visit counts as liked, bool [visits]."""
    positive = np.zeros(len(visits.event), bool)
    for code, name in enumerate(names.events):
        of_kind = np.flatnonzero(visits.event == code)
        values, places = np.unique(visits.value[of_kind], return_inverse=True)
        judged = [rules[name].is_positive(None if math.isnan(value) else value) for value in values.tolist()]
        positive[of_kind] = np.array(judged, bool)[places]
    return positive


def _strongest(weight: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Of each run of events the strongest, the last of equal ones, as its place."""
    greatest = np.repeat(np.maximum.reduceat(weight, first), np.diff(first, append=len(weight)))
    return np.maximum.reduceat(np.where(weight == greatest, np.arange(len(weight)), -1), first)
