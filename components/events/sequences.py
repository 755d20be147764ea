"""One user's events to the sequences of train, eval and test (docs/artifacts.md, "Sequences"): pure functions.

Order: by time; events of one moment, and events without time, by a stable hash of user and item, so that no order is
made up from the ids. Exact copies drop out. Consecutive events of the user on one item are one visit: the strongest
event (by its rule's weight) names it and gives its value, and its time is that of its last event, so that nothing in
it is later than its own time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf

from components.config import EventRule, SplitConfig
from components.events.interactions import Event, Interaction, interactions_of
from components.events.splits import GIVEN_SPLITS, SPLITS, Cuts, Split, fold_in_cut, last_cuts, stable_share, user_split
from components.examples import bytes_feature, floats_feature, ints_feature


class UserSequence(NamedTuple):
    """A user's interactions in one split: `history` is what is known, `own` belongs to the split."""

    user_id: str
    split: Split
    history: list[Interaction]
    own: list[Interaction]


def user_sequences(
    user_id: str, events: Iterable[Event], rules: Mapping[str, EventRule], split: SplitConfig, cuts: Cuts | None
) -> Iterator[UserSequence]:
    """The sequences of one user, at most one a split; a split without an event of the user's has none.

    cuts: of the whole table, for split.kind "time".
    """
    ordered = _in_order(user_id, set(events), rules)
    if split.kind == "user":
        yield from _held_out_user(user_id, ordered, rules, user_split(user_id, split))
        return
    if split.kind == "time_per_user":
        cuts = last_cuts([placed.moment for placed in ordered], split)
    parts = [_part_of(placed, split, cuts) for placed in ordered]
    for number, name in enumerate(SPLITS):
        own = [placed for placed, part in zip(ordered, parts) if part == name]
        before = [placed for placed, part in zip(ordered, parts) if part in SPLITS[:number]]
        if own:
            yield UserSequence(
                user_id,
                name,
                _interactions(before, rules),
                _interactions(own, rules),
            )


class _Placed(NamedTuple):
    moment: int  # seconds, or the rank of the item where there is no time
    event: Event


def _in_order(user_id: str, events: set[Event], rules: Mapping[str, EventRule]) -> list[_Placed]:
    def key(event: Event) -> tuple:
        shuffled = stable_share(user_id, event.item_id)
        value = -math.inf if event.value is None else event.value
        return (event.time_s or 0, shuffled, event.item_id, rules[event.event].weight, event.event, value)

    ordered = sorted(events, key=key)
    if all(event.time_s is not None for event in ordered):
        return [_Placed(event.time_s or 0, event) for event in ordered]
    by_item = itertools.groupby(ordered, key=lambda event: event.item_id)
    return [_Placed(rank, event) for rank, (_, group) in enumerate(by_item) for event in group]


def _part_of(placed: _Placed, split: SplitConfig, cuts: Cuts | None) -> Split:
    if split.kind == "given":
        return GIVEN_SPLITS[placed.event.split or ""]
    assert cuts is not None, "split.kind time needs the cuts of the whole table"
    return cuts.split_of(placed.moment)


def _held_out_user(
    user_id: str, ordered: list[_Placed], rules: Mapping[str, EventRule], part: Split
) -> Iterator[UserSequence]:
    cut = fold_in_cut([placed.moment for placed in ordered]) if part != "train" else -math.inf
    before = [placed for placed in ordered if placed.moment < cut]
    own = [placed for placed in ordered if placed.moment >= cut]
    if own:
        yield UserSequence(
            user_id,
            part,
            _interactions(before, rules),
            _interactions(own, rules),
        )


def _interactions(placed: list[_Placed], rules: Mapping[str, EventRule]) -> list[Interaction]:
    return interactions_of((event for _, event in placed), rules)


def sequence_example(sequence: UserSequence) -> tf.train.Example:
    """A sequence as an Example (docs/artifacts.md, "Sequences")."""
    interactions = sequence.history + sequence.own
    times_s = [interaction.time_s for interaction in interactions if interaction.time_s is not None]
    values = [math.nan if interaction.value is None else interaction.value for interaction in interactions]
    feature = {
        "user_id": bytes_feature([sequence.user_id]),
        "item_ids": bytes_feature(interaction.item_id for interaction in interactions),
        "events": bytes_feature(interaction.event for interaction in interactions),
        "timestamps_s": ints_feature(times_s),
        "values": floats_feature(values),
        "weights": floats_feature(interaction.weight for interaction in interactions),
        "positives": ints_feature(int(interaction.positive) for interaction in interactions),
        "num_history": ints_feature([len(sequence.history)]),
        "ordered": ints_feature([int(bool(times_s))]),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))
