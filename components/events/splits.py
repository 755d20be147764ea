"""Who and what belongs to train, eval and test: pure functions of one user's events, deterministic on every machine.

No part ever begins inside a moment: events of equal time are always in one part, so that what is called history is
strictly earlier than every target.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from components.config import SplitConfig

Split = Literal["train", "eval", "test"]

SPLITS: tuple[Split, ...] = ("train", "eval", "test")
GIVEN_SPLITS: dict[str, Split] = {"train": "train", "valid": "eval", "eval": "eval", "test": "test"}
FOLD_IN_SHARE = 0.8  # of a held-out user's events, that introduce them; the rest is to be predicted (Liang et al. 2018)
MIN_EVENTS_PER_USER = 3  # fewer stay in train when each user's own last events are held out
NEVER = math.inf


class Cuts(NamedTuple):
    """Times in seconds: train < eval_from <= eval < test_from <= test."""

    eval_from: float
    test_from: float

    def split_of(self, time_s: float) -> Split:
        """The part that a moment belongs to."""
        return "train" if time_s < self.eval_from else "eval" if time_s < self.test_from else "test"


def quantile_cuts(counts: Sequence[tuple[int, int]], split: SplitConfig) -> Cuts:
    """Cuts over all events: the last `test_share` of them is test, the `eval_share` before it eval.

    counts: (time, number of events), by time. A moment that lies across a cut goes to the later part, but the first
    moment is train.
    """
    total = sum(count for _, count in counts)
    test_at = total - _part(total, split.test_share)
    eval_at = test_at - (_part(total, split.eval_share) if split.eval_share else 0)
    eval_from = test_from = NEVER
    passed = 0
    for index, (time_s, count) in enumerate(counts):
        passed += count
        if index and passed > eval_at:
            eval_from = min(eval_from, time_s)
        if index and passed > test_at:
            test_from = min(test_from, time_s)
    return Cuts(eval_from, test_from)


def last_cuts(times_s: Sequence[int], split: SplitConfig) -> Cuts:
    """Cuts over one user's events (sorted times): at least one is held out for each wanted part, if there are
    MIN_EVENTS_PER_USER."""
    if len(times_s) < MIN_EVENTS_PER_USER:
        return Cuts(NEVER, NEVER)
    num_test = _part(len(times_s), split.test_share)
    num_eval = _part(len(times_s), split.eval_share) if split.eval_share else 0
    test_from = _moment_after(times_s, len(times_s) - num_test)
    eval_from = _moment_after(times_s, len(times_s) - num_test - num_eval)
    return Cuts(eval_from, test_from)


def fold_in_cut(times_s: Sequence[int]) -> float:
    """The time from which a held-out user's events (sorted times, at least one) are targets; before it, they are the
    history."""
    return times_s[-_part(len(times_s), 1 - FOLD_IN_SHARE)]


def user_split(user_id: str, split: SplitConfig) -> Split:
    """The part that a whole user belongs to, by a stable hash of the id."""
    share = stable_share(user_id)
    if share < split.test_share:
        return "test"
    return "eval" if share < split.test_share + split.eval_share else "train"


def stable_share(*parts: str) -> float:
    """A number in [0, 1) that is the same for the same parts in every process."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _part(count: int, share: float) -> int:
    return max(1, math.floor(count * share + 0.5))


def _moment_after(times_s: Sequence[int], index: int) -> float:
    """The time at `index`; where the event before it has the same time, the next later one (the moment stays in the
    earlier part)."""
    index = max(index, 0)
    before = times_s[index - 1] if index else -NEVER
    return next((time_s for time_s in times_s[index:] if time_s > before), NEVER)
