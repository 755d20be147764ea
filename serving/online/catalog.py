"""The items that may be shown: those of the index, and those that came after it was built, in rows kept free for them.

B items or requests, N items of the index, M rows kept free, D dimensions. Positions are rows of both: the index first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from serving.index import Index, ScannIndex, pad_to
from serving.online.vocabularies import Vocabularies, lookup

ANY_DOMAIN, UNKNOWN_DOMAIN, NO_DOMAIN = -1, -2, -3
NO_CREATOR = -1
ANY_TIME = tf.int64.min
UNDATED_S = -1e18  # before any bound
_CREATORS = 2**62  # codes of names: two of a million creators meet with a chance of one in ten million


@dataclass(frozen=True)
class Catalogue:
    """What the answer needs to know of the items, in the order of the index.

    domains, creators: "" where an item has none; no creators at all = none is known. cold_start: float32 [N], the score of each item for
    people we know nothing of. withdrawn: ids that must not be shown; they may be of items that are not in the index.
    published_at_s: float64 [N], seconds since 1970, NaN where unknown; empty = all unknown. now_s: the time of the last event known, 0 =
    unknown.
    """

    item_ids: Sequence[str]
    domains: Sequence[str]
    cold_start: np.ndarray
    creators: Sequence[str] = ()
    withdrawn: Sequence[str] = ()
    published_at_s: Sequence[float] | np.ndarray = ()
    now_s: int = 0


class Shelf(tf.Module):
    """Every row's vector and facts, and whether it may be shown. `add` and `withdraw` change it in place: one writer at a time.

    index: where the search begins; an exact one only gives its vectors. free_rows: M.
    Raises ValueError where ids cannot be a line of a vocabulary file, or the parts are not of the same items.
    """

    def __init__(self, index: Index, catalogue: Catalogue, free_rows: int = 0):
        super().__init__()
        creators = catalogue.creators or [""] * len(catalogue.item_ids)
        published_at_s = np.array(
            catalogue.published_at_s if len(catalogue.published_at_s) else np.full(len(catalogue.item_ids), np.nan)
        )
        lengths = {index.num_items, len(catalogue.item_ids), len(catalogue.domains), len(catalogue.cold_start)}
        lengths |= {len(creators), len(published_at_s)}
        if len(lengths) > 1:
            raise ValueError(
                f"index, item ids, domains and cold-start scores are of different catalogues: {sorted(lengths)} items"
            )
        if not np.isfinite(catalogue.cold_start).all():
            raise ValueError("cold-start scores must be finite")
        self.approximate = index if isinstance(index, ScannIndex) else None
        self.num_indexed, self.num_rows = index.num_items, index.num_items + free_rows
        vocabularies = Vocabularies(self)
        domain_names = sorted(set(catalogue.domains) - {""})
        self._indexed = vocabularies.table(catalogue.item_ids, "item_ids.txt")
        self._domain_codes = vocabularies.table(domain_names, "domains.txt")
        self._added = tf.lookup.experimental.MutableHashTable(tf.string, tf.int32, -1)
        code_of = {name: code for code, name in enumerate(domain_names)} | {"": NO_DOMAIN}
        withdrawn = set(catalogue.withdrawn)

        def rows(values, free, dtype: tf.DType) -> tf.Variable:
            values = np.asarray(values)
            kept_free = np.full((free_rows, *values.shape[1:]), free, values.dtype)
            return tf.Variable(tf.constant(np.concatenate([values, kept_free]), dtype), trainable=False)

        self._vectors = rows(index.vectors.numpy(), 0, tf.float32)  # [N + M, D]
        self._item_ids = rows(np.array(list(catalogue.item_ids), object), "", tf.string)
        self.domains = rows(np.array([code_of[name] for name in catalogue.domains], np.int32), NO_DOMAIN, tf.int32)
        self.creators = rows(creator_codes(tf.constant(list(creators), tf.string)).numpy(), NO_CREATOR, tf.int64)
        self.published_at_s = rows(np.nan_to_num(published_at_s, nan=UNDATED_S), UNDATED_S, tf.int64)
        self.now_s = tf.constant(catalogue.now_s, tf.int64)
        self.cold_start = rows(np.asarray(catalogue.cold_start, np.float32), 0, tf.float32)
        self._listed = rows(
            np.array([item_id not in withdrawn for item_id in catalogue.item_ids], bool), False, tf.bool
        )
        self._num_added = tf.Variable(0, trainable=False)

    @property
    def vectors(self) -> tf.Tensor:
        """float32 [N + M, D], zeros where a row is free."""
        return self._vectors.read_value()

    @property
    def listed(self) -> tf.Tensor:
        """bool [N + M], what may be shown."""
        return self._listed.read_value()

    def positions(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Rows of ids, int32 of the same shape, -1 for unknown ones. A withdrawn item keeps its row: a history may hold it."""
        indexed = lookup(self._indexed, item_ids)
        return tf.where(indexed >= 0, indexed, tf.ensure_shape(self._added.lookup(item_ids), item_ids.shape))

    def item_ids(self, positions: tf.Tensor) -> tf.Tensor:
        """Ids of rows, string of the same shape; the first row's for -1."""
        return tf.gather(self._item_ids, tf.maximum(positions, 0))

    def domain_codes(self, names: tf.Tensor) -> tf.Tensor:
        """What a request's domain means: int32, ANY_DOMAIN for "", UNKNOWN_DOMAIN for one that no indexed item has."""
        code = lookup(self._domain_codes, names)
        return tf.where(names == "", ANY_DOMAIN, tf.where(code < 0, UNKNOWN_DOMAIN, code))

    def nearest(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k listed or withdrawn rows of the highest dot product: the approximate index's and every added one, best first.

        queries: float32 [B, D]. Returns scores float32 and positions int32 [B, k], -inf and -1 beyond what was found.
        """
        assert self.approximate is not None, "an exact answer scores all rows"
        scores, positions = self.approximate.search(queries, tf.minimum(k, self.num_indexed))
        if self.num_rows > self.num_indexed:
            added = tf.matmul(queries, self._vectors[self.num_indexed :], transpose_b=True)  # [B, M]
            rows = tf.broadcast_to(tf.range(self.num_indexed, self.num_rows)[None], tf.shape(added))
            is_free = tf.range(self.num_rows - self.num_indexed) >= self._num_added
            scores = tf.concat([scores, tf.where(is_free[None], -np.inf, added)], 1)
            positions = tf.concat([positions, tf.where(is_free[None], -1, rows)], 1)
            scores, order = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
            positions = tf.gather(positions, order, batch_dims=1)
        return pad_to(scores, k, -np.inf), pad_to(positions, k, -1)

    def add(self, item_id: tf.Tensor, vector: tf.Tensor, domain: tf.Tensor, creator: tf.Tensor) -> tf.Tensor:
        """Show these items from now on: int32 [B], their rows.

        item_id, domain, creator: string [B]. vector: float32 [B, D], of unit length. An item of the index is shown again and otherwise
        stays as it is; one that was added before is replaced. An unknown domain counts as none until the index is built anew. What is
        added counts as published now.
        Raises INVALID_ARGUMENT for an empty or a repeated id, vectors that are not finite, and where no row is free.
        """
        known = self.positions(item_id)
        is_new = tf.cast(known < 0, tf.int32)
        rows = tf.where(known < 0, self.num_indexed + self._num_added + tf.cumsum(is_new) - 1, known)
        total = self._num_added + tf.reduce_sum(is_new)
        checks = [
            tf.debugging.Assert(tf.reduce_all(item_id != ""), ["item_id must not be empty"]),
            tf.debugging.assert_equal(tf.size(tf.unique(item_id).y), tf.size(item_id), "item_id names an item twice"),
            tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(vector)), ["vector must be finite"]),
            tf.debugging.assert_less_equal(
                total, self.num_rows - self.num_indexed, "no row is free for more items: build the index anew"
            ),
        ]
        with tf.control_dependencies(checks):
            at = tf.where(rows >= self.num_indexed)[:, 0]
            changed = tf.gather(rows, at)
            code = lookup(self._domain_codes, domain)
            columns = (
                (self._vectors, vector),
                (self._item_ids, item_id),
                (self.domains, tf.where(code < 0, NO_DOMAIN, code)),
                (self.creators, creator_codes(creator)),
                (self.published_at_s, tf.fill(tf.shape(rows), tf.cast(tf.timestamp(), tf.int64))),
            )
            written = [
                variable.scatter_update(tf.IndexedSlices(tf.gather(values, at), changed))
                for variable, values in columns
            ]
            written += [self._added.insert(tf.gather(item_id, at), changed), self._num_added.assign(total)]
        with tf.control_dependencies([tf.group(*written)]):  # what is listed is whole
            self._listed.scatter_update(tf.IndexedSlices(tf.fill([tf.size(rows)], True), rows))
        return rows

    def withdraw(self, item_id: tf.Tensor) -> tf.Tensor:
        """Show these items no more: bool [B], whether they were known."""
        rows = self.positions(item_id)
        known = tf.gather(rows, tf.where(rows >= 0)[:, 0])
        self._listed.scatter_update(tf.IndexedSlices(tf.fill([tf.size(known)], False), known))
        return rows >= 0


def creator_codes(names: tf.Tensor) -> tf.Tensor:
    """A number for each name, the same wherever it is computed: int64, NO_CREATOR for ""."""
    return tf.where(names == "", tf.constant(NO_CREATOR, tf.int64), tf.strings.to_hash_bucket_fast(names, _CREATORS))
