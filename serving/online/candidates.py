"""Candidate generation: the eligible items of the highest score, by search under the rules of each request.

Items are rows of the catalogue, -1 is none. B requests, C candidates, N rows of the catalogue.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.contract import BOTH
from serving.index import pad_to
from serving.online.catalog import ANY_DOMAIN, LiveCatalog
from trainer.retrieval.similarity import Similarity, dot

_SCORES_AT_ONCE = 2**25  # float32 scores of one exact step: 128 MiB


class Rules(NamedTuple):
    """What each request may be answered with."""

    excluded: tf.Tensor  # int32 [B, num_excluded], never in the list
    allowed: tf.Tensor  # int32 [B, num_allowed], nothing else where `is_limited`
    is_limited: tf.Tensor  # bool [B]
    domain: tf.Tensor  # int32 [B], a code or ANY_DOMAIN
    published_from_s: tf.Tensor  # int64 [B], nothing older, seconds since 1970, or ANY_TIME
    available_by_s: tf.Tensor  # int64 [B], nothing that is not out by then, seconds since 1970
    max_per_creator: tf.Tensor  # int32 [B], at most so many items of a creator; 0 = any number


class Query(NamedTuple):
    """What is searched for, and under which rules."""

    vector: tf.Tensor  # float32 [B, dim]
    is_cold_start: tf.Tensor  # bool [B], nothing is known of the user: items are scored for new users
    rules: Rules


def query_specs(dim: int) -> Query:
    """The shapes and types of a Query of vectors of so many dimensions."""
    lists, times = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int64)
    flags, codes = tf.TensorSpec([None], tf.bool), tf.TensorSpec([None], tf.int32)
    return Query(
        tf.TensorSpec([None, dim], tf.float32),
        flags,
        Rules(lists, lists, flags, codes, times, times, max_per_creator=codes),
    )


class Candidates:
    """The eligible items of the highest score for each request of a batch on its own."""

    def __init__(self, catalog: LiveCatalog, score: Similarity = dot, by: str = BOTH):
        """score: exact where all items are searched; where the index is approximate, of what that finds by dot
        product.
        by: which of the items' vectors are searched (`LiveCatalog.vectors_by`); but for both, every item is scored, and
        one without such a vector is no candidate.
        """
        self.catalog, self._score, self._by = catalog, score, by
        self.is_exact = catalog.approximate is None or by != BOTH
        signature = [query_specs(catalog.vectors_by(by).shape[1]), tf.TensorSpec([], tf.int32)]
        self.search_all = tf.function(self._search_all, signature, autograph=False)
        self.search_all_capped = tf.function(self._search_all_capped, signature, autograph=False)
        counts = tf.TensorSpec([None], tf.int32)
        self.search = tf.function(self._search, [*signature, counts, counts], autograph=False)

    def _search(self, query: Query, width, wanted, needed):
        """The best eligible items, whoever made them: scores float32 and items int32 [B, width], -inf and -1 beyond
        them.

        width: int32, the largest of `wanted`. wanted: int32 [B], how many a request looks at; those of the others in
        its batch change nothing. needed: int32 [B]; a request that an approximate search leaves with fewer is answered
        from all items.
        """
        if self.is_exact:
            return first(self.search_all(query, width), wanted)
        vector, is_cold_start, rules = query
        nearest = self.catalog.nearest(
            tf.where(is_cold_start[:, None], 0.0, vector), tf.minimum(width, self.catalog.num_rows)
        )
        scores, items = first(nearest, wanted)
        rows = tf.maximum(items, 0)
        if self._score is not dot:
            scores = self._score(vector[:, None], tf.gather(self.catalog.vectors, rows))[:, 0]
        may = self._is_among(items, rules.allowed) | ~rules.is_limited[:, None]
        fits = self._fits(rules, lambda column: tf.gather(column, rows))
        eligible = (items >= 0) & ~self._is_among(items, rules.excluded) & fits & may
        order = tf.argsort(tf.where(eligible, -scores, np.inf), 1, stable=True)  # the eligible first, best first
        scores, items = (
            pad_to(tf.gather(tf.where(eligible, values, fill), order, batch_dims=1), width, fill)
            for values, fill in ((scores, -np.inf), (items, -1))
        )
        found = tf.reduce_sum(tf.cast(items >= 0, tf.int32), 1)
        short = tf.where(is_cold_start | (found < needed))  # [S, 1]

        def from_all():
            found_in_all = first(self.search_all(select_requests(query, short), width), tf.gather_nd(wanted, short))
            return tuple(
                tf.tensor_scatter_nd_update(old, short, new) for old, new in zip((scores, items), found_in_all)
            )

        return tf.cond(tf.size(short) > 0, from_all, lambda: (scores, items))

    def _search_all(self, query: Query, wanted):
        """`search` over every item, in steps of so many requests that memory stays flat."""
        return self._in_steps(query, wanted, self._all_scores)

    def _search_all_capped(self, query: Query, wanted):
        """As `search_all`, of each creator only the best `max_per_creator` items: the list has as many as the rule
        leaves.
        """
        return self._in_steps(query, wanted, self._capped_scores)

    def _in_steps(self, query: Query, wanted, scores_of):
        batch = tf.shape(query.vector)[0]
        size = max(1, _SCORES_AT_ONCE // self.catalog.num_rows)

        def best(part: Query):
            scores, items = tf.math.top_k(scores_of(part), tf.minimum(wanted, self.catalog.num_rows))
            items = tf.where(scores == -np.inf, -1, items)
            return pad_to(scores, wanted, -np.inf), pad_to(items, wanted, -1)

        def step(number, all_scores, all_items):
            part = tf.nest.map_structure(lambda values: values[number * size : (number + 1) * size], query)
            scores, items = best(part)
            return number + 1, all_scores.write(number, scores), all_items.write(number, items)

        def in_steps():
            num_steps = (batch + size - 1) // size
            arrays = [
                tf.TensorArray(dtype, num_steps, infer_shape=False, element_shape=[None, None])
                for dtype in (tf.float32, tf.int32)
            ]
            _, *filled = tf.while_loop(lambda number, *_: number < num_steps, step, (0, *arrays))
            return tuple(tf.reshape(array.concat(), [batch, wanted]) for array in filled)

        # A loop costs ten ops for each tensor that goes round in it, and nearly all batches are of one step.
        return tf.cond(batch <= size, lambda: best(query), in_steps)

    def _all_scores(self, query: Query):
        """Scores of all rows, -inf where a row is not eligible: float32 [B, N]."""
        vector, is_cold_start, rules = query
        scores = self._score(vector, self.catalog.vectors_by(self._by))
        scores = tf.where(is_cold_start[:, None], self.catalog.cold_start[None], scores)
        may = _marked(rules.allowed, tf.shape(scores)) | ~rules.is_limited[:, None]
        fits = self._fits(rules, lambda column: column[None])
        if self._by != BOTH:
            fits &= self.catalog.has_vectors_by(self._by)[None]
        return tf.where(fits & may & ~_marked(rules.excluded, tf.shape(scores)), scores, -np.inf)

    def _capped_scores(self, query: Query):
        """As `_all_scores`, -inf for all but the best items of each creator too."""
        scores = self._all_scores(query)
        creators = tf.broadcast_to(self.catalog.creators[None], tf.shape(scores))
        is_within = rank_in_group(scores, creators) < cap_or_all(query.rules.max_per_creator)[:, None]
        return tf.where(is_within, scores, -np.inf)

    def _is_among(self, items, some):
        """Which of items [B, C] are among some [B, S]: bool [B, C]."""
        # With a last one that is larger than all, so that each search ends at a place.
        ordered = tf.concat([tf.sort(some, 1), tf.fill([tf.shape(some)[0], 1], self.catalog.num_rows)], 1)
        at = tf.searchsorted(ordered, items)
        return tf.gather(ordered, at, batch_dims=1) == items

    def _fits(self, rules: Rules, pick):
        """What the rules about an item's metadata leave: bool [B, C]. pick: column of the catalogue [N] -> [B or 1,
        C].
        """
        domain = rules.domain[:, None]
        is_of_domain = (domain == ANY_DOMAIN) | (pick(self.catalog.domains) == domain)
        is_recent = pick(self.catalog.published_at_s) >= rules.published_from_s[:, None]
        is_out = pick(self.catalog.available_from_s) <= rules.available_by_s[:, None]
        return pick(self.catalog.is_active) & is_of_domain & is_recent & is_out


def first(best, wanted):
    """So many of each request's best (scores and items [B, C]), -inf and -1 beyond. wanted: int32 [B]."""
    scores, items = best
    is_wanted = tf.range(tf.shape(items)[1])[None] < wanted[:, None]
    return tf.where(is_wanted, scores, -np.inf), tf.where(is_wanted, items, -1)


def cap_or_all(max_per_creator):
    """0 means any number."""
    return tf.where(max_per_creator > 0, max_per_creator, tf.int32.max)


def rank_in_group(scores, groups):
    """How many of the same request and group have a higher score (or the same, further to the left): int32 [B, N]; 0 in
    group -1.
    """
    order = tf.argsort(scores, 1, "DESCENDING", stable=True)
    by_score = tf.gather(groups, order, batch_dims=1)
    regroup = tf.argsort(by_score, 1, stable=True)
    grouped = tf.gather(by_score, regroup, batch_dims=1)
    rank = tf.range(tf.shape(scores)[1])[None] - tf.searchsorted(grouped, grouped)
    places = tf.gather(order, regroup, batch_dims=1)
    back = tf.gather(rank, tf.argsort(places, 1), batch_dims=1)
    return tf.where(groups < 0, 0, back)


def select_requests(structure, rows):
    """Some requests (int64 [S, 1]) of every tensor of a structure."""
    return tf.nest.map_structure(lambda values: tf.gather_nd(values, rows), structure)


def _marked(items, shape):
    """True at items int32 [B, H] of a rectangle [B, N]."""
    at = tf.where(items >= 0)  # [S, 2]
    cells = tf.stack([at[:, 0], tf.cast(tf.gather_nd(items, at), tf.int64)], 1)
    return tf.tensor_scatter_nd_update(tf.zeros(shape, tf.bool), cells, tf.ones([tf.shape(at)[0]], tf.bool))
