"""Initialisation of the id embeddings by a truncated singular value decomposition of the interactions, and of the
content.

N items, U users, D dimensions, K components of the content.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import scipy.sparse as sp

from components.datasets.interactions import Interactions

_INTERACTIONS_AT_ONCE = 250_000
_ITERATIONS = 6
_OVERSAMPLED = 32  # directions beyond those that are asked for, which make the last of them exact
_LEAST = 1e-3  # singular value beside the largest; what is smaller is what rounding leaves
CONTENT_COUNTS_AS = 10.0  # users: an item with so many starts halfway between its interactions and its content


def svd_vectors(
    chosen: sp.csr_matrix, dim: int, seed: int, content: np.ndarray | None = None, num_submodels: int = 1
) -> np.ndarray:
    """Unit item vectors from the truncated singular value decomposition of the degree-normalised interactions.

    Each entry is divided by the square root of its user's and of its item's count, so neither busy users nor popular
    items decide alone; right singular vectors are scaled by their singular values. Dimensions beyond the rank, and
    items without any interaction, are small noise, so training can still use them.
    chosen: sparse [U, N], > 0 where a user chose an item.
    dim: dimensions of a vector of one submodel.
    content: float [N, K], components of the items' content, which count like further users, the more, the fewer users
    an item has.
    num_submodels: so many side by side, each with noise of its own.
    Returns float32 [N, num_submodels x dim].
    Sources: the low-rank optimum of a linear autoencoder (Shen et al., GF-CF, CIKM 2021); side information as rows of
    the interactions (Jeunen et al., RecSys 2020).
    """
    num_items = chosen.shape[1]
    known = np.bincount(chosen.indices, minlength=num_items) > 0
    if content is not None:
        known |= content.any(1)
        content = content[known]
    chosen = chosen[:, known]  # nothing is added to the others
    per_user, per_item = (np.maximum(np.asarray(chosen.sum(axis)).ravel(), 1.0) for axis in (1, 0))
    of_user, of_item = 1 / per_user, per_item**-0.5  # the user's twice over, as they are met in a square
    rows = np.zeros((0, len(per_item)), np.float32)
    if content is not None and content.any():
        largest = np.linalg.eigvalsh(content.T @ content)[-1] ** 0.5  # singular value
        rows = (content.T / largest * (CONTENT_COUNTS_AS / (per_item + CONTENT_COUNTS_AS)) ** 0.5).astype(np.float32)
        of_item *= (per_item / (per_item + CONTENT_COUNTS_AS)) ** 0.5
    of_item = of_item[:, None].astype(np.float32)

    def squared(vectors: np.ndarray) -> np.ndarray:
        total = rows.T @ (rows @ vectors)
        for part, weights in _blocks(chosen, of_user):
            total += of_item * (part.T @ (weights * (part @ (of_item * vectors))))
        return total

    random = np.random.default_rng(seed)
    first = random.normal(size=(num_items, min(dim + _OVERSAMPLED, num_items)))[known].astype(np.float32)
    values, directions = _leading(squared, first, dim)
    scaled = directions * values
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    start = np.where(length > 1e-6, scaled / np.maximum(length, 1e-6), 0.0)
    vectors = random.normal(scale=0.1 / np.sqrt(dim), size=(num_submodels, num_items, dim))
    vectors[:, known, : start.shape[1]] += start
    return np.concatenate(list(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)), 1).astype(np.float32)


def _leading(
    squared: Callable[[np.ndarray], np.ndarray], basis: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The largest singular values of a matrix and their right singular vectors, by subspace iteration.

    squared: the product of the matrix's square, float [size, size], with float32 [size, any].
    basis: float32 [size, some more than count], directions at random.
    Returns float32 [count or fewer] and [size, count or fewer]; values that are 0 next to the largest are left out.
    Source: Halko et al., Finding Structure with Randomness, SIAM Review 2011, algorithm 4.4.
    """
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(squared(basis))
    squares, rotation = np.linalg.eigh(basis.T @ squared(basis))  # ascending
    values = np.sqrt(np.maximum(squares[::-1][:count], 0))
    kept = values > _LEAST * values[:1]
    return values[kept], (basis @ rotation[:, ::-1][:, :count])[:, kept]


def _blocks(chosen: sp.csr_matrix, of_user: np.ndarray) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
    """The rows of users, some at a time, with their weights [B, 1]: float32."""
    start = 0
    while start < chosen.shape[0]:
        stop = int(np.searchsorted(chosen.indptr, chosen.indptr[start] + _INTERACTIONS_AT_ONCE, "right")) - 1
        stop = min(max(stop, start + 1), chosen.shape[0])
        yield chosen[start:stop].astype(np.float32), of_user[start:stop, None].astype(np.float32)
        start = stop


def positive_matrix(sequences: Interactions, num_items: int) -> sp.csr_matrix:
    """The positive interactions of a split as a binary matrix: float64 CSR [U, N], its entries mapped from a file."""
    lengths = [np.zeros(1, np.int64)]
    with tempfile.TemporaryFile() as items_file, tempfile.TemporaryFile() as ones_file:
        for users in sequences.blocks(_INTERACTIONS_AT_ONCE):
            first, last = sequences.splits[users[0]], sequences.splits[users[-1] + 1]
            rows = np.repeat(np.arange(len(users)), np.diff(sequences.splits[users[0] : users[-1] + 2]))
            is_positive = sequences.positives[first:last]
            pairs = np.unique(rows[is_positive] * num_items + sequences.items[first:last][is_positive])
            (pairs % num_items).astype(np.int32).tofile(items_file)
            np.ones(len(pairs)).tofile(ones_file)
            lengths.append(np.bincount(pairs // num_items, minlength=len(users)))
        starts = np.cumsum(np.concatenate(lengths))
        if starts[-1] == 0:
            return sp.csr_matrix((len(sequences), num_items))
        columns, ones = (_mapped(file, dtype) for file, dtype in ((items_file, np.int32), (ones_file, np.float64)))
    if starts[-1] <= np.iinfo(np.int32).max:
        starts = starts.astype(np.int32)  # of the type of the columns, so that neither is copied
    return sp.csr_matrix((ones, columns, starts), (len(sequences), num_items), copy=False)


def _mapped(file: BinaryIO, dtype: type) -> np.ndarray:
    file.flush()
    return np.memmap(file, dtype, "r")
