"""What may be shown, best first: search under the rules of each request.

B requests, H hidden items, A allowed items, C candidates, N items, D dimensions. Positions are rows of the shelf; -1 is none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.index import pad_to
from serving.online.catalog import ANY_DOMAIN, Shelf
from trainer.retrieval.similarity import Similarity, dot

_SCORES_AT_ONCE = 2**25  # float32 scores of one exact step: 128 MiB


class Rules(NamedTuple):
    """What each request may be answered with."""

    hidden: tf.Tensor  # int32 [B, H], never in the list
    allowed: tf.Tensor  # int32 [B, A], nothing else where `is_limited`
    is_limited: tf.Tensor  # bool [B]
    domain: tf.Tensor  # int32 [B], a code or ANY_DOMAIN
    published_from_s: tf.Tensor  # int64 [B], nothing older, seconds since 1970, or ANY_TIME
    of_creator: tf.Tensor  # int32 [B], at most so many items of a creator; 0 = any number


class Request(NamedTuple):
    """Who asks, and under which rules."""

    query: tf.Tensor  # float32 [B, D]
    fallback: tf.Tensor  # bool [B], nothing is known of the person: the order is that of new people
    rules: Rules


class Candidates(tf.Module):
    """The eligible items of the highest score for each request of a batch on its own."""

    def __init__(self, shelf: Shelf, score: Similarity = dot):
        """score: exact where all items are searched; where the index is approximate, of what that finds by dot product."""
        super().__init__()
        self.shelf, self._score = shelf, score

    def search(self, request: Request, wanted: tf.Tensor, needed: tf.Tensor):
        """The best eligible items, whoever made them: scores (-inf beyond them) and positions [B, wanted].

        needed: int32 [B]; a request that an approximate search leaves with fewer is answered from all items.
        """
        if self.shelf.approximate is None:
            return self.search_all(request, wanted, cap_creators=False)
        query, fallback, rules = request
        scores, positions = self.shelf.nearest(
            tf.where(fallback[:, None], 0.0, query), tf.minimum(wanted, self.shelf.num_rows)
        )
        items = tf.maximum(positions, 0)
        if self._score is not dot:
            scores = self._score(query[:, None], tf.gather(self.shelf.vectors, items))[:, 0]
        facts = (
            tf.gather(values, items) for values in (self.shelf.domains, self.shelf.published_at_s, self.shelf.listed)
        )
        fits = _fits(rules, *facts)
        may = self._is_among(positions, rules.allowed) | ~rules.is_limited[:, None]
        eligible = (positions >= 0) & ~self._is_among(positions, rules.hidden) & fits & may
        order = tf.argsort(tf.where(eligible, -scores, np.inf), 1, stable=True)  # the eligible first, best first
        scores, positions = (
            pad_to(tf.gather(tf.where(eligible, values, fill), order, batch_dims=1), wanted, fill)
            for values, fill in ((scores, -np.inf), (positions, -1))
        )
        found = tf.reduce_sum(tf.cast(positions >= 0, tf.int32), 1)
        short = tf.where(fallback | (found < needed))  # [S, 1]

        def from_all():
            found_in_all = self.search_all(rows_of(request, short), wanted, cap_creators=False)
            return tuple(
                tf.tensor_scatter_nd_update(old, short, new) for old, new in zip((scores, positions), found_in_all)
            )

        return tf.cond(tf.size(short) > 0, from_all, lambda: (scores, positions))

    def search_all(self, request: Request, wanted: tf.Tensor, cap_creators: bool):
        """`search` over every item, in steps of so many rows that memory stays flat.

        cap_creators: of each creator only the best `of_creator` items, so that the list has as many as the rule leaves.
        """
        batch = tf.shape(request.query)[0]
        step = max(1, _SCORES_AT_ONCE // self.shelf.num_rows)
        num_steps = tf.maximum((batch + step - 1) // step, 1)
        scores = tf.TensorArray(tf.float32, num_steps, infer_shape=False, element_shape=[None, None])
        positions = tf.TensorArray(tf.int32, num_steps, infer_shape=False, element_shape=[None, None])
        for number in tf.range(num_steps):
            part = tf.nest.map_structure(lambda values: values[number * step : (number + 1) * step], request)  # noqa: B023 (traced here)
            best = self._best_of_all(part, wanted, cap_creators)
            scores, positions = scores.write(number, best[0]), positions.write(number, best[1])
        shape = [batch, wanted]
        return tf.reshape(scores.concat(), shape), tf.reshape(positions.concat(), shape)

    def _best_of_all(self, request: Request, wanted: tf.Tensor, cap_creators: bool):
        query, fallback, rules = request
        scores = self._score(query, self.shelf.vectors)  # [B, N]
        scores = tf.where(fallback[:, None], self.shelf.cold_start[None], scores)
        fits = _fits(rules, self.shelf.domains[None], self.shelf.published_at_s[None], self.shelf.listed[None])
        may = _marked(rules.allowed, tf.shape(scores)) | ~rules.is_limited[:, None]
        scores = tf.where(fits & may & ~_marked(rules.hidden, tf.shape(scores)), scores, -np.inf)
        if cap_creators:
            creators = tf.broadcast_to(self.shelf.creators[None], tf.shape(scores))
            scores = tf.where(rank_in_group(scores, creators) < cap_or_all(rules.of_creator)[:, None], scores, -np.inf)
        scores, positions = tf.math.top_k(scores, tf.minimum(wanted, self.shelf.num_rows))
        positions = tf.where(scores == -np.inf, -1, positions)
        return pad_to(scores, wanted, -np.inf), pad_to(positions, wanted, -1)

    def _is_among(self, positions, some):
        """Which of positions [B, C] are among some [B, S]: bool [B, C]."""
        ordered = tf.sort(some, 1)
        ordered = tf.concat(
            [ordered, tf.fill([tf.shape(some)[0], 1], self.shelf.num_rows)], 1
        )  # so that each search ends somewhere
        at = tf.searchsorted(ordered, positions)
        return tf.gather(ordered, at, batch_dims=1) == positions


def _fits(rules: Rules, domains, published_at_s, listed):
    """What the rules about an item's own facts leave: bool [B, C], from facts [B or 1, C]."""
    of_domain = (rules.domain[:, None] == ANY_DOMAIN) | (domains == rules.domain[:, None])
    return listed & of_domain & (published_at_s >= rules.published_from_s[:, None])


def cap_or_all(of_creator):
    """0 means any number."""
    return tf.where(of_creator > 0, of_creator, tf.int32.max)


def rank_in_group(scores, groups):
    """How many of the same row and group have a higher score (or the same, further to the left): int32 [B, N]; 0 in group -1."""
    order = tf.argsort(scores, 1, "DESCENDING", stable=True)
    by_score = tf.gather(groups, order, batch_dims=1)
    regroup = tf.argsort(by_score, 1, stable=True)
    grouped = tf.gather(by_score, regroup, batch_dims=1)
    rank = tf.range(tf.shape(scores)[1])[None] - tf.searchsorted(grouped, grouped)
    places = tf.gather(order, regroup, batch_dims=1)
    back = tf.gather(rank, tf.argsort(places, 1), batch_dims=1)
    return tf.where(groups < 0, 0, back)


def rows_of(structure, rows):
    """Some rows (int64 [S, 1]) of every tensor of a structure."""
    return tf.nest.map_structure(lambda values: tf.gather_nd(values, rows), structure)


def _marked(positions, shape):
    """True at positions int32 [B, H] of a rectangle [B, N]."""
    at = tf.where(positions >= 0)  # [S, 2]
    cells = tf.stack([at[:, 0], tf.cast(tf.gather_nd(positions, at), tf.int64)], 1)
    return tf.tensor_scatter_nd_update(tf.zeros(shape, tf.bool), cells, tf.ones([tf.shape(at)[0]], tf.bool))
