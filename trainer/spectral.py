"""Where item vectors start: the leading directions of who chose what. N items, U users, D dimensions."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from trainer.data import Sequences


def spectral_vectors(chosen: sp.spmatrix, dim: int, seed: int) -> np.ndarray:
    """Unit item vectors from the truncated singular value decomposition of the degree-normalised interactions.

    chosen: [U, N], > 0 where a user chose an item. Each entry is divided by the square root of its user's and of its item's count, so
    neither busy users nor popular items decide alone; right singular vectors are scaled by their singular values. Dimensions beyond the
    rank, and items without any interaction, are small noise, so training can still use them.
    Returns float32 [N, dim], unit norm. Source: the low-rank optimum of a linear autoencoder (Shen et al., GF-CF, CIKM 2021).
    """
    per_user, per_item = (np.maximum(np.asarray(chosen.sum(axis)).ravel(), 1.0) for axis in (1, 0))
    normalised = (sp.diags(per_user**-0.5) @ chosen @ sp.diags(per_item**-0.5)).astype(np.float64)
    random = np.random.default_rng(seed)
    vectors = random.normal(scale=0.1 / np.sqrt(dim), size=(chosen.shape[1], dim))
    rank = min(dim, min(chosen.shape) - 1)
    if rank > 0:
        _, values, directions = svds(normalised, k=rank, v0=random.uniform(size=min(chosen.shape)))
        spectral = directions.T * values
        length = np.linalg.norm(spectral, axis=1, keepdims=True)
        vectors[:, :rank] += np.where(length > 1e-6, spectral / np.maximum(length, 1e-6), 0.0)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def positive_matrix(sequences: Sequences, num_items: int) -> sp.csr_matrix:
    """The positive interactions of the split, float32 [U, N], 1 where there is one or more."""
    users = np.repeat(np.arange(len(sequences)), np.diff(sequences.splits))[sequences.positives]
    items = sequences.items[sequences.positives]
    matrix = sp.csr_matrix((np.ones(len(items), np.float32), (users, items)), (len(sequences), num_items))
    matrix.data[:] = 1
    return matrix
