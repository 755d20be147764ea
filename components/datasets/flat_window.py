"""The windows of users one after the other, without padding: what a linear profile adds up needs no matrix of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from components.datasets.interactions import Interactions, ages_s


class FlatWindow(NamedTuple):
    """As `components.datasets.interactions.Window`, the windows of all users in a row: [n] each."""

    at: np.ndarray  # int64, rows of the interactions
    rows: np.ndarray  # int32, which of the users each belongs to, ascending
    items: np.ndarray  # int32, rows of the catalogue
    events: np.ndarray  # int32, codes
    age_s: np.ndarray  # float32, seconds from the interaction to the moment, 0 where unknown


def flat_window(
    interactions: Interactions,
    users: np.ndarray,
    stops: np.ndarray,
    length: int,
    moments_s: np.ndarray | None = None,
) -> FlatWindow:
    """The same interactions as of `components.datasets.interactions.window`, whose arguments it takes."""
    users, stops = np.asarray(users, np.int64), np.asarray(stops, np.int64)
    moments_s = interactions.asked_at_s(users, stops) if moments_s is None else moments_s
    lengths = np.minimum(stops, length)
    ends = np.cumsum(lengths)
    rows = np.repeat(np.arange(len(users), dtype=np.int32), lengths)
    at = np.arange(len(rows)) + np.repeat(interactions.splits[users] + stops - ends, lengths)
    ages = ages_s(interactions.times_s[at], moments_s[rows])
    return FlatWindow(at, rows, interactions.items[at], interactions.events[at], ages)
