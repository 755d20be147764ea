"""Initialisation of the id embeddings by a truncated singular value decomposition of the interactions, and of the
content.

N items, U users, D dimensions, K components of the content.
"""

from __future__ import annotations

import tempfile
from typing import BinaryIO

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import ArpackError, LinearOperator, svds

from components.datasets.interactions import Interactions

_INTERACTIONS_AT_ONCE = 2_000_000
_DENSE_CELLS = 20_000_000  # users x items that a dense decomposition may have
CONTENT_COUNTS_AS = 10.0  # users: an item with so many starts halfway between its interactions and its content


def svd_vectors(chosen: sp.spmatrix, dim: int, seed: int, content: np.ndarray | None = None) -> np.ndarray:
    """Unit item vectors from the truncated singular value decomposition of the degree-normalised interactions.

    Each entry is divided by the square root of its user's and of its item's count, so neither busy users nor popular
    items decide alone; right singular vectors are scaled by their singular values. Dimensions beyond the rank, and
    items without any interaction, are small noise, so training can still use them.
    chosen: sparse [U, N], > 0 where a user chose an item.
    dim: dimensions of a vector.
    content: float [N, K], components of the items' content, which count like further users, the more, the fewer users
    an item has.
    Returns float32 [N, dim].
    Sources: the low-rank optimum of a linear autoencoder (Shen et al., GF-CF, CIKM 2021); side information as rows of
    the interactions (Jeunen et al., RecSys 2020).
    """
    num_users, num_items = chosen.shape
    per_user, per_item = (np.maximum(np.asarray(chosen.sum(axis)).ravel(), 1.0) for axis in (1, 0))
    of_user, of_item = per_user**-0.5, per_item**-0.5
    rows = np.zeros((0, num_items))
    if content is not None and content.any():
        largest = np.linalg.eigvalsh(content.T @ content)[-1] ** 0.5  # singular value
        rows = content.T / largest * (CONTENT_COUNTS_AS / (per_item + CONTENT_COUNTS_AS)) ** 0.5
        of_item *= (per_item / (per_item + CONTENT_COUNTS_AS)) ** 0.5
    shape = (num_users + len(rows), num_items)
    normalised = LinearOperator(  # a product of three matrices, without a copy of the large one, and content rows below
        shape,
        matvec=lambda items: np.concatenate([of_user * (chosen @ (of_item * items.ravel())), rows @ items.ravel()]),
        rmatvec=lambda users: (
            of_item * (chosen.T @ (of_user * users.ravel()[:num_users])) + users.ravel()[num_users:] @ rows
        ),
        dtype=np.float64,
    )
    random = np.random.default_rng(seed)
    vectors = random.normal(scale=0.1 / np.sqrt(dim), size=(num_items, dim))
    rank = min(dim, min(shape) - 1)
    if rank > 0:
        try:
            _, values, directions = svds(normalised, k=rank, v0=random.uniform(size=min(shape)))
        except ArpackError:  # few events: many equal values, among which its iteration finds no way on
            if np.prod(shape, dtype=np.int64) > _DENSE_CELLS:
                raise
            dense = np.concatenate([of_user[:, None] * chosen.toarray() * of_item, rows])
            values, directions = (part[:rank] for part in np.linalg.svd(dense, full_matrices=False)[1:])
        scaled = directions.T * values
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        vectors[:, :rank] += np.where(length > 1e-6, scaled / np.maximum(length, 1e-6), 0.0)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


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
