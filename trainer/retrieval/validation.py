"""Full-ranking validation of the retrieval model: every user of a split ranks the whole catalogue.

B users, N items, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from components.datasets.flat_window import flat_window
from components.datasets.interactions import MOST_JUDGED, Interactions, window
from components.datasets.sparse import chosen_pairs
from trainer.config.retrieval import cutoff_of
from trainer.data import ItemTable
from trainer.evaluation import metrics
from trainer.keras import tf
from trainer.retrieval.model import Retrieval
from trainer.towers.user_tower import ProfileTower

_INTERACTIONS_AT_ONCE = 1_000_000  # of validation, as matrices in memory


class Validation:
    """Ranks the catalogue for every user of a split, without their history and without what is not out when they ask.

    As in evaluation, each user asks once, at the time of the first interaction of the split; of very many users a fixed
    part does.
    """

    def __init__(self, model: Retrieval, sequences: Interactions, table: ItemTable, metric: str):
        """metric: name and cutoff, as in NDCG@10."""
        sequences = sequences.at_most(MOST_JUDGED)
        self.model, self.sequences, self.table, self.metric = model, sequences, table, metric
        self._block: tuple[np.ndarray, sp.csr_matrix, sp.csr_matrix] | None = None

    def value(self, vectors: np.ndarray, candidates: np.ndarray | None = None) -> float:
        """The metric's mean over the users, NaN where none has a target.

        vectors: float32 [N, D], of all items.
        candidates: bool [N], the items to be ranked; all where None.
        """
        cutoff = cutoff_of(self.metric)
        values, known = [], tf.constant(vectors)  # once: of a million items it is 256 MB
        for users in self.sequences.blocks(_INTERACTIONS_AT_ONCE):
            if self._block is None or not np.array_equal(self._block[0], users):
                self._block = (users, *targets_and_history(self.sequences, len(self.table), users))

            def scores(rows: np.ndarray, users: np.ndarray = users) -> np.ndarray:
                return user_vectors(self.model, self.sequences, known, users[rows]) @ vectors.T

            def unavailable(rows: np.ndarray, users: np.ndarray = users) -> np.ndarray:
                asked_at_s = self.sequences.asked_at_s(users[rows], self.sequences.num_history[users[rows]])
                return self.table.available_from_s > asked_at_s[:, None]

            result = metrics.evaluate(
                scores, *self._block[1:], cutoffs=(cutoff,), candidates=candidates, unavailable=unavailable
            )
            values.append(result.values[self.metric])
        return metrics.mean_of(np.concatenate([np.zeros(0), *values]))


def user_vectors(model: Retrieval, sequences: Interactions, vectors: tf.Tensor, rows: np.ndarray) -> np.ndarray:
    """Unit vectors of some users, from the history of their split.

    vectors: float32 [N, D], of all items.
    rows: int [B], users of `sequences`.
    Returns float32 [B, D].
    """
    wanted = (sequences, rows, sequences.num_history[rows], model.history_length)
    if isinstance(model.user_tower, ProfileTower):
        flat = flat_window(*wanted)
        parts = (flat.rows, flat.items, flat.events, sequences.feature_rows(rows))
        return model.encode_flat(vectors, *map(tf.constant, parts)).numpy()
    history = window(*wanted)
    inputs = (history.items, history.events, history.age_s, sequences.feature_rows(rows))
    return model.encode_users(vectors, *map(tf.constant, inputs)).numpy()


def targets_and_history(
    sequences: Interactions, num_items: int, users: np.ndarray | None = None
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """What is to be found (the positives of the split) and what is hidden (the history): sparse bool [B, N] each.

    users: int [B], rows in ascending order without a gap; all where None.
    """
    users = np.arange(len(sequences)) if users is None else users
    bounds = sequences.splits[users[0] : users[-1] + 2] if len(users) else np.zeros(1, np.int64)
    items, positives = (column[bounds[0] : bounds[-1]] for column in (sequences.items, sequences.positives))
    bounds = bounds - bounds[0]
    history_ends = (bounds[:-1] + sequences.num_history[users]).astype(np.int32)
    is_history = np.arange(len(items), dtype=np.int32) < np.repeat(history_ends, np.diff(bounds))
    truth = chosen_pairs(items, ~is_history & positives, bounds, num_items)
    return truth, chosen_pairs(items, is_history, bounds, num_items)
