"""Interactions as a sparse matrix of users and items."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def chosen_pairs(items: np.ndarray, chosen: np.ndarray, splits: np.ndarray, num_items: int) -> sp.csr_matrix:
    """Who has a chosen interaction with which item: bool CSR [num_users, num_items], its entries True.

    items: int32 [num_interactions], rows of the catalogue. chosen: bool [num_interactions]. splits: int64
    [num_users + 1] from 0 on, the bounds of the users' interactions.
    """
    before = np.concatenate([np.zeros(1, np.int32), np.cumsum(chosen, dtype=np.int32)])
    columns = np.asarray(items)[chosen]  # of a mapped file, too, an array of its own
    found = sp.csr_matrix((np.ones(len(columns), bool), columns, before[splits]), (len(splits) - 1, num_items))
    found.sum_duplicates()
    return found
