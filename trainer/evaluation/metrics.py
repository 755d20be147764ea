"""Full-ranking metrics: every candidate is ranked, what a user has seen is hidden, equal scores rank at random.

U users, N items, B users of a block, K the largest cutoff. Values are kept per user, so that intervals and paired
differences can be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from trainer.evaluation.highest import top_k

BLOCK_USERS = 256  # users scored at once, fewer over a large catalogue
_CELLS_AT_ONCE = 8_000_000  # scores
RESAMPLES = 1000  # bootstrap draws
_DRAWS_AT_ONCE = 50

ScoreBlock = Callable[[np.ndarray], np.ndarray]  # rows of users int [B] -> scores float [B, N]
MaskBlock = Callable[[np.ndarray], np.ndarray]  # rows of users int [B] -> bool [B, N]


@dataclass(frozen=True)
class Evaluation:
    """What one contender scored, user by user."""

    rows: np.ndarray  # int64 [V], the users that have something to find, as rows of the truth matrix
    values: dict[
        str, np.ndarray
    ]  # "R@20", "NDCG@20", "HR@20", "MRR@20" -> float64 [V]; NaN where the cutoff decides nothing
    totals: dict[str, float]  # "coverage@20", "gini@20": of the whole set of answers; NaN likewise
    users_without_truth: int  # not averaged in

    def mean(self, metric: str) -> float:
        """The mean over users, NaN where there are none."""
        return mean_of(self.values[metric])

    def interval(self, metric: str, seed: int = 0) -> Interval:
        """The mean over users with its 95 % bootstrap interval."""
        return bootstrap(self.values[metric], seed)


@dataclass(frozen=True)
class Interval:
    """A mean over users and its 95 % bootstrap interval; NaN throughout where it is undefined.

    users: who are averaged.
    """

    value: float
    low: float
    high: float
    users: int


class Wanted(NamedTuple):
    """What is to be found, and by whom."""

    truth: sp.spmatrix  # [U, N], the gain of each relevant item, 1 where relevance is plain
    rows: np.ndarray | None = None  # int [R], ascending, the users that are asked for; all where None


def evaluate(
    score_block: ScoreBlock,
    truth: sp.spmatrix,
    seen: sp.spmatrix | None = None,
    cutoffs: Sequence[int] = (10, 20, 50),
    candidates: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    block_users: int = BLOCK_USERS,
    unavailable: MaskBlock | None = None,
) -> Evaluation:
    """Rank the candidates for every user and score the lists.

    score_block: rows int64 [B] -> scores [B, N], finite; higher is better. Equal scores rank in a random order of each
    user's own, the same in every call, so that the order of the catalogue decides nothing. truth: sparse [U, N], the
    gain of each relevant item (1 where relevance is plain). An item that is hidden or no candidate cannot be found and
    counts as no truth. seen: sparse [U, N], nonzero = hidden from the list. candidates: bool [N], the items that are
    ranked (default all). unavailable: rows int64 [B] -> bool [B, N], what does not exist yet when each user asks:
    hidden and no truth, as what is seen. rows: the users to evaluate (default all). A cutoff that is not below the
    number of candidates ranks nothing: its values are NaN. Where it is not below the number of a user's own, those that
    are not hidden, recall and hit rate of this user are 1 whatever the scores: they are NaN, and no mean has them; the
    order still decides NDCG and MRR. Recall divides by the number of relevant items; NDCG uses
    linear gains and a log2 discount (Järvelin & Kekäläinen, 2002).
    Raises ValueError where scores are not finite or shapes differ.
    """
    (found,) = evaluate_all(score_block, [Wanted(truth, rows)], seen, cutoffs, candidates, block_users, unavailable)
    return found


def evaluate_all(
    score_block: ScoreBlock,
    wanted: Sequence[Wanted],
    seen: sp.spmatrix | None = None,
    cutoffs: Sequence[int] = (10, 20, 50),
    candidates: np.ndarray | None = None,
    block_users: int = BLOCK_USERS,
    unavailable: MaskBlock | None = None,
) -> list[Evaluation]:
    """`evaluate` for each of what is wanted, by the same lists: a user is scored and ranked once."""
    lists = [_Judged(each, cutoffs) for each in wanted]
    num_users, num_items = wanted[0].truth.shape
    candidates = np.ones(num_items, bool) if candidates is None else np.asarray(candidates, bool)
    seen = sp.csr_matrix((num_users, num_items)) if seen is None else sp.csr_matrix(seen)
    for each in lists:
        if candidates.shape != (num_items,) or not seen.shape == each.truth.shape == (num_users, num_items):
            raise ValueError(
                f"truth {each.truth.shape}, seen {seen.shape} and candidates {candidates.shape} "
                "do not describe the same users and items"
            )
    num_candidates = int(candidates.sum())
    depth = min(max(cutoffs), num_candidates)
    asked = lists[0].rows if len(lists) == 1 else np.unique(np.concatenate([each.rows for each in lists]))
    block_users = max(min(block_users, _CELLS_AT_ONCE // max(num_items, 1)), 1)
    for start in range(0, len(asked), block_users):
        block = asked[start : start + block_users]
        hidden = np.tile(~candidates, (len(block), 1))
        if unavailable is not None:
            hidden |= unavailable(block)
        seen_of_block = seen[block]
        hidden[_rows_of(seen_of_block), seen_of_block.indices] |= seen_of_block.data != 0
        gains = [each.gains(block, hidden) for each in lists]  # [B, N] each
        with_truth = np.any([np.diff(each.indptr) > 0 for each in gains], 0)
        block, hidden = block[with_truth], hidden[with_truth]
        num_own = num_items - hidden.sum(1)
        if not len(block):
            continue
        scores = np.array(score_block(block))
        scores = scores.astype(np.result_type(scores, np.float32), copy=False)
        if scores.shape != hidden.shape:
            raise ValueError(f"scores: got shape {scores.shape}, expected {hidden.shape}")
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{int((~np.isfinite(scores)).sum())} scores are not finite, "
                f"the first for user row {block[~np.isfinite(scores).all(1)][0]}"
            )
        scores[hidden] = -np.inf
        ranked = top_k(scores, depth, block)  # [B, K]
        for each, its_gains in zip(lists, gains):
            each.add(block, its_gains[with_truth], ranked, num_own)
    return [each.evaluation(depth, candidates) for each in lists]


class _Judged:
    """The lists of one `Wanted`, block by block."""

    def __init__(self, wanted: Wanted, cutoffs: Sequence[int]):
        self.truth = sp.csr_matrix(wanted.truth, dtype=np.float64).sorted_indices()
        self.rows = np.arange(self.truth.shape[0]) if wanted.rows is None else np.asarray(wanted.rows)
        self._is_asked = np.zeros(self.truth.shape[0], bool)
        self._is_asked[self.rows] = True
        self._exposure = {k: np.zeros(self.truth.shape[1], np.int64) for k in cutoffs}
        self._kept: list[np.ndarray] = []
        self._at: list[np.ndarray] = []
        self._ideal: list[np.ndarray] = []
        self._relevant: list[np.ndarray] = []
        self._num_own: list[np.ndarray] = []

    def gains(self, block: np.ndarray, hidden: np.ndarray) -> sp.csr_matrix:
        """What each user of a block can find, nothing for those that are not asked for: float64 [B, N], above 0."""
        found = self.truth[block]
        rows = _rows_of(found)
        kept = (found.data > 0) & self._is_asked[block][rows] & ~hidden[rows, found.indices]
        return sp.csr_matrix((found.data[kept], (rows[kept], found.indices[kept])), found.shape)

    def add(self, block: np.ndarray, gains: sp.csr_matrix, ranked: np.ndarray, num_own: np.ndarray) -> None:
        """Take in the lists int [B, K] of users int [B] who can find `gains` [B, N] among `num_own` int [B] items."""
        relevant = np.diff(gains.indptr)
        with_truth = relevant > 0
        gains, ranked = gains[with_truth], ranked[with_truth]
        self._kept.append(block[with_truth])
        self._at.append(_gains_at(gains, ranked))
        self._ideal.append(_highest_gains(gains, ranked.shape[1]))
        self._relevant.append(relevant[with_truth])
        self._num_own.append(num_own[with_truth])
        for k, counts in self._exposure.items():
            shown = ranked[:, :k]
            counts += np.bincount(shown[shown >= 0], minlength=len(counts))

    def evaluation(self, depth: int, candidates: np.ndarray) -> Evaluation:
        """What they score. depth: length of the lists. candidates: bool [N]."""
        join = lambda parts, shape: np.concatenate(parts) if parts else np.zeros(shape)  # noqa: E731
        num_users, num_candidates = sum(map(len, self._kept)), int(candidates.sum())
        found = (join(self._at, (0, depth)), join(self._ideal, (0, depth)), join(self._relevant, (0,)))
        totals = {}
        for k, counts in self._exposure.items():
            is_ranking = k < num_candidates and num_users > 0
            totals[f"coverage@{k}"] = float((counts[candidates] > 0).mean()) if is_ranking else float("nan")
            totals[f"gini@{k}"] = gini(counts[candidates]) if is_ranking else float("nan")
        values = _values(*found, [*self._exposure], num_candidates, join(self._num_own, (0,)))
        return Evaluation(join(self._kept, (0,)).astype(np.int64), values, totals, len(self.rows) - num_users)


def _rows_of(matrix: sp.csr_matrix) -> np.ndarray:
    """The row of each entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _gains_at(gains: sp.csr_matrix, ranked: np.ndarray) -> np.ndarray:
    """The gains of ranked items, 0 where there is none: float64 [B, K]. ranked: int [B, K], -1 = no item."""
    num_users, num_items = gains.shape
    cells = _rows_of(gains) * num_items + gains.indices  # ascending
    wanted = np.arange(num_users)[:, None] * num_items + ranked
    place = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
    return np.where((cells[place] == wanted) & (ranked >= 0), gains.data[place], 0) if len(cells) else 0.0 * wanted


def _highest_gains(gains: sp.csr_matrix, count: int) -> np.ndarray:
    """The gains of the best list of each row, best first, 0 where there are no more: float64 [B, count]."""
    rows = _rows_of(gains)
    place = np.arange(len(rows)) - gains.indptr[rows]
    kept = place < count
    highest = np.zeros((gains.shape[0], count))
    highest[rows[kept], place[kept]] = gains.data[np.lexsort((-gains.data, rows))][kept]
    return highest


def ndcg(ranked_gains: np.ndarray, ideal_gains: np.ndarray) -> np.ndarray:
    """Normalised discounted cumulative gain: linear gains, log2 discount.

    ranked_gains, ideal_gains: float [B, K], the gains in the order shown and in the best order. Returns float [B].
    """
    discounts = 1 / np.log2(np.arange(2, ranked_gains.shape[1] + 2))
    return (ranked_gains @ discounts) / np.maximum(ideal_gains @ discounts, np.finfo(float).tiny)


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of how often each item is shown: 0 = all alike, near 1 = one item takes all.

    counts: [N]. NaN where all are zero.
    """
    ordered = np.sort(np.asarray(counts, np.float64))
    if not ordered.sum():
        return float("nan")
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * ordered.sum()))


def mean_of(values: np.ndarray) -> float:
    """The mean of float [V] over the users that have a value; NaN where there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def bootstrap(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of float [V] over the users that have a value, NaN for the others, with its 95 % percentile interval over
    resampled users (Efron, 1979).
    """
    return bootstrap_all({"": values}, seed)[""]


def bootstrap_all(values: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, Interval]:
    """`bootstrap` of several metrics or contenders over the same users, with the same draws: float [V] each."""
    intervals = {name: Interval(float("nan"), float("nan"), float("nan"), len(array)) for name, array in values.items()}
    defined = {name: np.asarray(array, np.float64) for name, array in values.items() if not np.isnan(array).all()}
    if not defined:
        return intervals
    table = np.stack(list(defined.values()), 1)  # [V, M]
    is_there = (~np.isnan(table)).astype(np.float64)
    table = np.nan_to_num(table)
    num_users = len(table)
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, RESAMPLES, _DRAWS_AT_ONCE):
        draws = generator.integers(0, num_users, (min(_DRAWS_AT_ONCE, RESAMPLES - start), num_users))
        times_drawn = np.stack([np.bincount(draw, minlength=num_users) for draw in draws])  # [draws, V]
        drawn = times_drawn @ is_there
        means.append(np.where(drawn > 0, times_drawn @ table / np.maximum(drawn, 1), np.nan))
    low, high = np.nanpercentile(np.concatenate(means), [2.5, 97.5], axis=0)
    for column, name in enumerate(defined):
        users = int(is_there[:, column].sum())
        value = float(table[:, column].sum() / users)
        intervals[name] = Interval(value, float(low[column]), float(high[column]), users)
    return intervals


def paired_bootstrap(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Interval:
    """Mean of a - b over the same users, with its 95 % interval: clear of 0 means that the two differ.

    a, b: float [V], user by user in the same order. Raises ValueError where the lengths differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired values must be of the same users: got {a.shape} and {b.shape}")
    return bootstrap(a - b, seed)


def _values(
    gains: np.ndarray,
    ideal_gains: np.ndarray,
    relevant: np.ndarray,
    cutoffs: Sequence[int],
    num_candidates: int,
    num_own: np.ndarray,
) -> dict[str, np.ndarray]:
    values = {}
    for k in cutoffs:
        hits = gains[:, :k] > 0
        first_rank = np.where(hits.any(1), hits.argmax(1) + 1, np.inf) if hits.size else np.full(len(hits), np.inf)
        at_k = {"R": hits.sum(1) / np.maximum(relevant, 1), "NDCG": ndcg(gains[:, :k], ideal_gains[:, :k])}
        at_k |= {"HR": hits.any(1).astype(np.float64), "MRR": 1 / first_rank}
        for name, at in at_k.items():
            is_decided = k < num_own if name in ("R", "HR") else k < num_candidates
            values[f"{name}@{k}"] = np.where(is_decided, at, np.nan)
    return values
