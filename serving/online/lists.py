"""From queries to ranked lists: candidates, their scores, the positions one by one.

B requests, C candidates, O objectives, K the longest list asked for. Items are rows of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from serving.online.candidates import Candidates, Query, first, select_requests
from serving.online.catalog import LiveCatalog
from serving.online.rerank import NEW_PERSON, RerankOptions, mmr_rerank, rerank_specs

_traced = partial(tf.function, autograph=False)  # no branch here is one by Python's own statements


class Asked(NamedTuple):
    """A batch of requests on the way to their lists."""

    query: Query
    context: Any  # a ScoringContext; () where candidates keep the similarity of the search
    options: RerankOptions
    k: tf.Tensor  # int32 [B]


class RankedList(NamedTuple):
    """The positions of the lists, [B, K, ...]; item -1 beyond the last."""

    items: tf.Tensor
    scores: tf.Tensor
    probabilities: tf.Tensor
    reasons: tf.Tensor


class Ranking(NamedTuple):
    """How a kind of list is made."""

    candidates: Candidates
    score: Callable[..., Any]  # as `RetrievalScorer.score`
    reason: int  # of a position that neither diversity nor exploration filled


class ListMaker:
    """Makes the lists of a batch. num_candidates: of each request at least."""

    def __init__(self, catalog: LiveCatalog, num_candidates: int):
        self._catalog, self._num_candidates = catalog, num_candidates
        self._rerank = _traced(mmr_rerank, rerank_specs(catalog.vectors.shape[1]))  # once for all kinds of lists

    def make(self, asked: Asked, width, ranking: Ranking) -> tuple[RankedList, tf.Tensor]:
        """The lists, and which needed more candidates than the index gives because of the cap of a creator.

        width: int32, K.
        """
        # Of an approximate index more than the rules are likely to take away.
        times = 1 if self._catalog.approximate is None else 2
        wanted = tf.maximum(self._num_candidates, times * asked.k)  # [B], of each request on its own
        most = tf.maximum(self._num_candidates, times * width)
        similarity, items = ranking.candidates.search(asked.query, most, wanted, asked.k)
        ranked = self._ranked(asked, similarity, items, width, ranking)
        found = tf.reduce_sum(tf.cast(ranked.items >= 0, tf.int32), 1)
        may_miss = (wanted < self._catalog.num_rows) | (not ranking.candidates.is_exact)
        is_short = (asked.options.max_per_creator > 0) & (found < asked.k) & may_miss

        def with_full_scan():
            rows = tf.where(is_short)
            part = select_requests(asked, rows)
            best = first(ranking.candidates.search_all_capped(part.query, most), tf.gather_nd(wanted, rows))
            again = self._ranked(part, best[0], best[1], width, ranking)
            return tf.nest.map_structure(lambda old, new: _replaced(old, rows, new), ranked, again)

        return tf.cond(tf.reduce_any(is_short), with_full_scan, lambda: ranked), is_short

    def make_some(self, found, rows, asked: Asked, width, ranking: Ranking):
        """`found` (items and scores [B, K], full scans [B]) with the lists of some requests, int64 [S, 1]."""

        def with_them():
            ranked, full_scan = self.make(select_requests(asked, rows), width, ranking)
            new = (ranked.items, ranked.scores, full_scan)
            return tuple(tf.tensor_scatter_nd_update(old, rows, lists) for old, lists in zip(found, new))

        return tf.cond(tf.size(rows) > 0, with_them, lambda: found)

    def _ranked(self, asked: Asked, similarity, items, width, ranking: Ranking) -> RankedList:
        """The lists from candidates: similarity float32, items int32 [B, C]."""
        utility, probabilities = ranking.score(similarity, items, asked.context)
        is_new = asked.query.is_cold_start
        utility = tf.where(is_new[:, None], similarity, utility)
        rows = tf.maximum(items, 0)
        vectors, creators = tf.gather(self._catalog.vectors, rows), tf.gather(self._catalog.creators, rows)
        columns, chosen_by = self._rerank(utility, items, vectors, creators, asked.options, width)
        at = tf.maximum(columns, 0)
        items, utility, probabilities = (
            tf.gather(values, at, batch_dims=1) for values in (items, utility, probabilities)
        )
        usual = tf.where(is_new, NEW_PERSON, ranking.reason)[:, None]
        return RankedList(
            tf.where(columns >= 0, items, -1), utility, probabilities, tf.where(chosen_by >= 0, chosen_by, usual)
        )


def _replaced(old, rows, new):
    """With new values in some rows, int64 [S, 1]. TensorFlow updates no tensor without columns: of no objective."""
    return old if 0 in old.shape else tf.tensor_scatter_nd_update(old, rows, new)
