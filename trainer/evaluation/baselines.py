"""Baselines with one interface: `fit` on the training matrix, then `scores` for histories.

U users, N items, B histories. Matrices of interactions are scipy CSR, [users, items].
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from components.datasets.interactions import ages_s

_ITEMS_AT_ONCE = 1024
_PAIRS_AT_ONCE = 8_000_000
_HALF_LIVES_IN_DATA = 10  # recent popularity halves over a tenth of the time that the data covers


class Baseline(Protocol):
    """A recommender without hidden state: what it says follows from the training matrix and the history alone."""

    name: str

    def fit(self, train: sp.csr_matrix) -> Baseline:
        """Learn from float [U, N], nonzero = a positive training interaction; returns itself."""
        ...

    def scores(self, histories: sp.csr_matrix) -> np.ndarray:
        """Score every item for float [B, N] histories. Returns float32 [B, N], finite; higher is better."""
        ...


class Popularity:
    """The number of people who took an item in training; the same for everyone."""

    name = "popularity"

    def fit(self, train: sp.csr_matrix) -> Popularity:
        self._counts = np.asarray((train != 0).sum(0), np.float32).ravel()  # [N]
        return self

    def scores(self, histories: sp.csr_matrix) -> np.ndarray:
        return np.tile(self._counts, (histories.shape[0], 1))


def recent_popularity(items: np.ndarray, times_s: np.ndarray, num_items: int) -> np.ndarray:
    """Recent popularity: an interaction counts half for every tenth of the data's time that it is old.

    items: int [num_interactions], of positive ones. times_s: float64 [num_interactions], NaN = counts in full. Returns
    float64 [num_items].
    """
    known = times_s[~np.isnan(times_s)]
    half_life_s = max(np.ptp(known) / _HALF_LIVES_IN_DATA, 1.0) if len(known) else 1.0
    return np.bincount(items, 0.5 ** (ages_s(times_s, known.max(initial=-np.inf)) / half_life_s), num_items)


class Random:
    """A uniform order for each history, the same in every process: seeded by a hash of the seed and of the history."""

    name = "random"

    def __init__(self, seed: int = 0):
        self._seed = seed

    def fit(self, train: sp.csr_matrix) -> Random:
        return self

    def scores(self, histories: sp.csr_matrix) -> np.ndarray:
        histories = sp.csr_matrix(histories)
        scores = np.empty(histories.shape, np.float32)
        for row in range(histories.shape[0]):
            items = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
            digest = hashlib.blake2b(f"{self._seed}:{sorted(items.tolist())}".encode(), digest_size=8).digest()
            scores[row] = np.random.default_rng(int.from_bytes(digest, "big")).random(histories.shape[1], np.float32)
        return scores


class ItemKnn:
    """Item-based k nearest neighbours by shrunk cosine of the users who took them (Deshpande & Karypis, 2004).

    neighbours: similar items kept for each item that is scored. shrinkage: added to the cosine's denominator.
    """

    name = "item_knn"
    _similarity: sp.csr_matrix  # [history item, target item]

    def __init__(self, neighbours: int = 100, shrinkage: float = 10.0):
        self.neighbours, self.shrinkage = neighbours, shrinkage

    def fit(self, train: sp.csr_matrix) -> ItemKnn:
        (fitted,) = self.fit_each(train, self.neighbours, [self.shrinkage])
        self._similarity = fitted._similarity
        return self

    @classmethod
    def fit_each(cls, train: sp.csr_matrix, neighbours: int, shrinkages: Sequence[float]) -> list[ItemKnn]:
        """One for each shrinkage, fitted; who took what together is counted once for all of them."""
        columns = sp.csc_matrix(train, dtype=np.float32)  # [U, N]
        norms = np.sqrt(np.asarray(columns.multiply(columns).sum(0))).ravel()  # [N]
        made = [cls(neighbours, shrinkage) for shrinkage in shrinkages]
        blocks: list[list[sp.csr_matrix]] = [[] for _ in made]
        for start, stop in _item_blocks(columns):
            similar = (columns[:, start:stop].T @ columns).tocoo()  # [targets, N]
            off_diagonal = similar.row + start != similar.col
            row, col, together = (part[off_diagonal] for part in (similar.row, similar.col, similar.data))
            for knn, kept in zip(made, blocks):
                value = together / (norms[row + start] * norms[col] + knn.shrinkage)
                kept.append(_keep_highest(sp.csr_matrix((value, (row, col)), similar.shape), neighbours))
        for knn, kept in zip(made, blocks):
            knn._similarity = sp.vstack(kept).T.tocsr().astype(np.float32)
        return made

    def narrowed(self, neighbours: int) -> ItemKnn:
        """The same with fewer neighbours, fitted."""
        made = ItemKnn(neighbours, self.shrinkage)
        made._similarity = _keep_highest(self._similarity.T.tocsr(), neighbours).T.tocsr()
        return made

    def scores(self, histories: sp.csr_matrix) -> np.ndarray:
        return np.asarray((sp.csr_matrix(histories, dtype=np.float32) @ self._similarity).todense(), np.float32)


class ContentKnn:
    """Content-based: the cosine between an item's content and the mean unit content vector of the history.

    content: sparse or dense [N, D], zero rows where an item has none; `tf_idf` of words or tags, or an embedding.
    """

    def __init__(self, content: sp.spmatrix | np.ndarray, name: str = "content_knn"):
        self.name = name
        self._content = _unit_rows(sp.csr_matrix(content, dtype=np.float32))

    def fit(self, train: sp.csr_matrix) -> ContentKnn:
        if train.shape[1] != self._content.shape[0]:
            raise ValueError(f"content of {self._content.shape[0]} items, interactions with {train.shape[1]}")
        return self

    def scores(self, histories: sp.csr_matrix) -> np.ndarray:
        profiles = _unit_rows(sp.csr_matrix(histories, dtype=np.float32) @ self._content)  # [B, D]
        return np.asarray((profiles @ self._content.T).todense(), np.float32)


def tf_idf(documents: Sequence[Sequence[str]]) -> sp.csr_matrix:
    """Unit rows of tf-idf with smooth idf, ln((1 + n) / (1 + df)) + 1 (Spärck Jones, 1972).

    documents: the words or tags of each item. Returns float32 [N, words]; an item without words is a zero row.
    """
    vocabulary = {word: column for column, word in enumerate(sorted({word for words in documents for word in words}))}
    rows = [row for row, words in enumerate(documents) for _ in words]
    columns = [vocabulary[word] for words in documents for word in words]
    counts = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, columns)), (len(documents), len(vocabulary))
    )  # equal cells add up
    in_documents = np.asarray((counts > 0).sum(0)).ravel()
    idf = np.log((1 + len(documents)) / (1 + in_documents)) + 1
    return _unit_rows(sp.csr_matrix(counts @ sp.diags(idf), dtype=np.float32))


def _unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1))).ravel()
    return sp.csr_matrix(sp.diags(1 / np.where(norms > 0, norms, 1)) @ matrix, dtype=np.float32)


def _item_blocks(columns: sp.csc_matrix) -> Iterator[tuple[int, int]]:
    """Bounds of ranges of items of about `_PAIRS_AT_ONCE` pairs with an item that somebody took as well."""
    num_items = columns.shape[1]
    taken = columns != 0
    pairs = np.minimum(np.asarray(taken.sum(1)).ravel() @ taken, num_items)  # at most, [N]
    ends = np.cumsum(pairs)
    start = 0
    while start < num_items:
        most = ends[start] - pairs[start] + _PAIRS_AT_ONCE
        stop = min(max(int(np.searchsorted(ends, most, "right")), start + 1), start + _ITEMS_AT_ONCE)
        yield start, stop
        start = stop


def _keep_highest(matrix: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """The `count` highest values of each row; equal ones by column."""
    kept = []
    for row in range(matrix.shape[0]):
        start, stop = matrix.indptr[row], matrix.indptr[row + 1]
        values = matrix.data[start:stop]
        highest = np.arange(stop - start)
        if count < len(values):  # to sort these alone
            highest = np.flatnonzero(values >= np.partition(values, -count)[-count])
        order = np.lexsort((matrix.indices[start + highest], -values[highest]))[:count]
        kept.append(start + np.sort(highest[order]))
    keep = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])])
    return sp.csr_matrix((matrix.data[keep], matrix.indices[keep], indptr), matrix.shape)
