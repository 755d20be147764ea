"""What a contender may see and what it is asked, for validation and for the test.

U users, N items. All matrices are scipy CSR [U, N]; nonzero = the pair is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Stage:
    """One fit and one ranking."""

    train: sp.csr_matrix  # to fit on
    history: sp.csr_matrix  # what is known of each user when the list is made
    hidden: sp.csr_matrix  # may not be in the list, for every contender alike
    truth: sp.csr_matrix  # to be found
    candidates: np.ndarray  # bool [N], what is ranked
    times_s: sp.csr_matrix | None = None  # of the history, seconds since 1970, where the protocol has an order
    request_s: np.ndarray | None = None  # int64 [U], when each user asks, where the protocol has times
    watch: sp.csr_matrix | None = None  # pairs beyond train that may decide when training stops

    def __post_init__(self) -> None:
        shapes = {matrix.shape for matrix in (self.train, self.history, self.hidden, self.truth)}
        assert len(shapes) == 1, shapes
        assert self.candidates.shape == (self.train.shape[1],)
        assert not self.train.multiply(self.truth).nnz, "what is to be found must not be in train"
        assert not self.history.multiply(self.truth).nnz, "what is to be found must not be in the history"

    def parts(self) -> list[bytes]:
        """All that it holds, for a digest."""
        matrices = (self.train, self.history, self.hidden, self.truth, self.times_s, self.watch)
        arrays = [part for each in matrices if each is not None for part in (each.indptr, each.indices, each.data)]
        asked = [] if self.request_s is None else [self.request_s]
        return [array.tobytes() for array in (self.candidates, *arrays, *asked)]


@dataclass(frozen=True)
class Split:
    """One case's data, split once: settings are chosen on `validation`, and `test` is touched once."""

    case: str
    validation: Stage
    test: Stage
    metrics: tuple[str, ...]  # reported; the first one chooses the settings
    content: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> float [N, D]
    tags: tuple[tuple[str, ...], ...] = ()  # of each item
    seed: int = 0  # of the split

    @property
    def cutoff(self) -> int:
        """The K of the metrics."""
        return int(self.metrics[0].partition("@")[2])


def matrix(
    users: np.ndarray, items: np.ndarray, shape: tuple[int, int], values: np.ndarray | None = None
) -> sp.csr_matrix:
    """Pairs as a CSR of ones, or of `values`; repeated pairs count once, the last value wins."""
    cells = users.astype(np.int64) * shape[1] + items
    kept = len(cells) - 1 - np.unique(cells[::-1], return_index=True)[1]
    data = np.ones(len(kept), np.float64) if values is None else values[kept].astype(np.float64)
    return sp.csr_matrix((data, (users[kept], items[kept])), shape)


def share_of(text: str) -> float:
    """A number in 0..1 that depends on the text alone, on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def random_ranks(users: np.ndarray, seed: int) -> np.ndarray:
    """For each row its place in a random order of the rows of its user, from 0: int64 [n]."""
    draws = np.random.default_rng(seed).random(len(users))
    order = np.lexsort((draws, users))
    return _ranks_in_order(users, order)


def time_ranks(users: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """For each row its place in the time order of its user, from 0; equal times in the order of the file."""
    order = np.lexsort((np.arange(len(users)), times_s, users))
    return _ranks_in_order(users, order)


def carve(train: sp.csr_matrix, share: float, seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Take a share of each user's pairs away for validation; users with too few keep all. Returns (rest, taken)."""
    pairs = train.tocoo()
    ranks, counts = random_ranks(pairs.row, seed), np.bincount(pairs.row, minlength=train.shape[0])
    taken = ranks < np.floor(share * counts)[pairs.row]
    return (
        matrix(pairs.row[~taken], pairs.col[~taken], train.shape),
        matrix(pairs.row[taken], pairs.col[taken], train.shape),
    )


def _ranks_in_order(users: np.ndarray, order: np.ndarray) -> np.ndarray:
    sorted_users = users[order]
    starts = np.flatnonzero(np.r_[True, sorted_users[1:] != sorted_users[:-1]])
    lengths = np.diff(np.r_[starts, len(users)])
    ranks = np.empty(len(users), np.int64)
    ranks[order] = np.arange(len(users)) - np.repeat(starts, lengths)
    return ranks
