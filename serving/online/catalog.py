"""The live catalogue: what the index was built over and what was added since, as state that a served model can change.

Items are rows of the catalogue: those of the index first, then rows kept free for items to come. -1 is no item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.contract import BEHAVIOUR, BOTH, CONTENT
from serving.index import ScannIndex, VectorIndex, pad_to
from serving.online.vocabularies import Vocabularies, lookup

ANY_DOMAIN, UNKNOWN_DOMAIN, NO_DOMAIN = -1, -2, -3
NO_CREATOR = -1
ANY_TIME = tf.int64.min
UNDATED_S = -1e18  # before any bound
_CREATORS = 2**62  # codes of names: two of a million creators meet with a chance of one in ten million


@dataclass(frozen=True)
class IndexedItems:
    """Metadata of the items of an index, in its order.

    item_ids: distinct, on one line each.
    domains: "" where an item has none.
    cold_start: float32 [num_items], the score of each item for users of whom nothing is known.
    creators: "" where an item has none; empty = no item has one.
    withdrawn: ids that are not shown; they may be of items that are not in the index.
    published_at_s: float64 [num_items], seconds since 1970, NaN where unknown; empty = unknown for all.
    available_from_s: float64 [num_items], seconds since 1970 from which on an item is shown, -inf = always; empty =
    always for all.
    now_s: seconds since 1970 of the last known event, the time of requests that tell none; 0 = unknown.
    content, behaviour: float32 [num_items, dim], unit vectors by one of them alone, 0 for an item without; empty = no
    item has one.
    """

    item_ids: Sequence[str]
    domains: Sequence[str]
    cold_start: np.ndarray
    creators: Sequence[str] = ()
    withdrawn: Sequence[str] = ()
    published_at_s: Sequence[float] | np.ndarray = ()
    available_from_s: Sequence[float] | np.ndarray = ()
    now_s: int = 0
    content: Sequence[np.ndarray] | np.ndarray = ()
    behaviour: Sequence[np.ndarray] | np.ndarray = ()

    def __post_init__(self) -> None:
        size = len(self.item_ids)
        optional = (self.creators, self.published_at_s, self.available_from_s, self.content, self.behaviour)
        lengths = {len(self.domains), len(self.cold_start), *(len(values) for values in optional if len(values))}
        if lengths != {size}:
            raise ValueError(f"{size} item ids, but columns of {sorted(lengths)}: they are of different catalogues")
        if not np.isfinite(self.cold_start).all():
            raise ValueError("cold-start scores must be finite")

    def dates_s(self, name: str) -> np.ndarray:
        """The column of that name, UNDATED_S where nothing is known: float64 [num_items]."""
        values = np.asarray(getattr(self, name), np.float64)
        return (
            np.nan_to_num(values, nan=UNDATED_S, neginf=UNDATED_S)
            if len(values)
            else np.full(len(self.item_ids), UNDATED_S)
        )


class LiveCatalog(tf.Module):
    """Vector, metadata and activity of every row. `add` and `withdraw` change it in place: one writer at a time.

    index: an approximate one is where a search begins; an exact one only gives its vectors.
    insert_capacity: rows kept free for items that come after the build.
    Raises ValueError where index and items are of different catalogues, or an id cannot be a line of a vocabulary file.
    """

    def __init__(self, index: VectorIndex, items: IndexedItems, insert_capacity: int = 0):
        super().__init__()
        if index.num_items != len(items.item_ids):
            raise ValueError(
                f"{index.num_items} vectors, {len(items.item_ids)} items: they are of different catalogues"
            )
        self.approximate = index if isinstance(index, ScannIndex) else None
        self.num_indexed, self.num_rows = index.num_items, index.num_items + insert_capacity
        vocabularies = Vocabularies(self)
        domain_names = sorted(set(items.domains) - {""})
        self._indexed = vocabularies.table(items.item_ids, "item_ids.txt")
        self._domain_codes = vocabularies.table(domain_names, "domains.txt")
        self._added = tf.lookup.experimental.MutableHashTable(tf.string, tf.int32, -1)
        code_of = {name: code for code, name in enumerate(domain_names)} | {"": NO_DOMAIN}
        withdrawn = set(items.withdrawn)

        def column(values, free, dtype: tf.DType) -> tf.Variable:
            values = np.asarray(values)
            kept_free = np.full((insert_capacity, *values.shape[1:]), free, values.dtype)
            return tf.Variable(tf.constant(np.concatenate([values, kept_free]), dtype), trainable=False)

        def view(vectors: np.ndarray) -> tuple[tf.Variable, tf.Variable]:
            """The vectors of all rows, and which rows have one."""
            return column(vectors, 0, tf.float32), column((vectors != 0).any(1), False, tf.bool)

        content, behaviour = (
            np.asarray(given, np.float32) if len(given) else np.zeros((index.num_items, 0), np.float32)
            for given in (items.content, items.behaviour)
        )

        creators = creator_codes(tf.constant(list(items.creators) or [""] * index.num_items, tf.string)).numpy()
        is_active = np.array([item_id not in withdrawn for item_id in items.item_ids], bool)
        self._vectors = column(index.vectors.numpy(), 0, tf.float32)  # [num_rows, dim]
        self._content_mean = tf.constant(content.sum(0) / max((content != 0).any(1).sum(), 1), tf.float32)
        self._content, self._has_content = view(from_mean(content, self._content_mean).numpy())
        self._behaviour, self._has_behaviour = view(behaviour)
        self._item_ids = column(np.array(list(items.item_ids), object), "", tf.string)
        self.domains = column(np.array([code_of[name] for name in items.domains], np.int32), NO_DOMAIN, tf.int32)
        self.creators = column(creators, NO_CREATOR, tf.int64)
        self.published_at_s = column(items.dates_s("published_at_s"), UNDATED_S, tf.int64)
        self.available_from_s = column(items.dates_s("available_from_s"), UNDATED_S, tf.int64)
        self.now_s = tf.constant(items.now_s, tf.int64)
        self.cold_start = column(np.asarray(items.cold_start, np.float32), 0, tf.float32)
        self._is_active = column(is_active, False, tf.bool)
        self._num_added = tf.Variable(0, trainable=False)

    @property
    def vectors(self) -> tf.Tensor:
        """float32 [num_rows, dim], zeros where a row is free."""
        return self._vectors.read_value()

    def vectors_by(self, by: str) -> tf.Tensor:
        """`vectors` by BOTH, else by CONTENT or BEHAVIOUR alone: float32 [num_rows, dim], zeros where there is none.

        Contents are directions from their mean, which all items share and which tells nothing of one.
        """
        return {BOTH: self._vectors, CONTENT: self._content, BEHAVIOUR: self._behaviour}[by].read_value()

    def has_vectors_by(self, by: str) -> tf.Tensor:
        """Which items have a vector by CONTENT or BEHAVIOUR alone: bool [num_rows]."""
        return {CONTENT: self._has_content, BEHAVIOUR: self._has_behaviour}[by].read_value()

    @property
    def is_active(self) -> tf.Tensor:
        """bool [num_rows], neither free nor withdrawn."""
        return self._is_active.read_value()

    def rows(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Rows of ids, int32 of the same shape, -1 for unknown ones. A withdrawn item keeps its row: a history may hold
        it.
        """
        indexed = lookup(self._indexed, item_ids)
        return tf.where(indexed >= 0, indexed, tf.ensure_shape(self._added.lookup(item_ids), item_ids.shape))

    def item_ids(self, rows: tf.Tensor) -> tf.Tensor:
        """Ids of rows, string of the same shape; the first row's for -1."""
        return tf.gather(self._item_ids, tf.maximum(rows, 0))

    def domain_codes(self, names: tf.Tensor) -> tf.Tensor:
        """Codes of a request's domains: int32, ANY_DOMAIN for "", UNKNOWN_DOMAIN for one that no indexed item has."""
        code = lookup(self._domain_codes, names)
        return tf.where(names == "", ANY_DOMAIN, tf.where(code < 0, UNKNOWN_DOMAIN, code))

    def time_or_now(self, time_s: tf.Tensor) -> tf.Tensor:
        """Times of requests, int64: that of the last known event where 0 says nothing."""
        return tf.where(time_s > 0, time_s, self.now_s)

    def nearest(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k rows of the highest dot product, withdrawn ones included, best first: the approximate index's and every
        added one.

        queries: float32 [num_queries, dim].
        Returns scores float32 and rows int32 [num_queries, k], -inf and -1 beyond what was found.
        """
        assert self.approximate is not None, "an exact search scores all rows"
        scores, rows = self.approximate.search(queries, tf.minimum(k, self.num_indexed))
        if self.num_rows > self.num_indexed:
            of_added = tf.matmul(queries, self._vectors[self.num_indexed :], transpose_b=True)  # [B, M]
            added = tf.broadcast_to(tf.range(self.num_indexed, self.num_rows)[None], tf.shape(of_added))
            is_free = tf.range(self.num_rows - self.num_indexed) >= self._num_added
            scores = tf.concat([scores, tf.where(is_free[None], -np.inf, of_added)], 1)
            rows = tf.concat([rows, tf.where(is_free[None], -1, added)], 1)
            scores, order = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
            rows = tf.gather(rows, order, batch_dims=1)
        return pad_to(scores, k, -np.inf), pad_to(rows, k, -1)

    def add(
        self,
        item_id: tf.Tensor,
        vector: tf.Tensor,
        domain: tf.Tensor,
        creator: tf.Tensor,
        content: tf.Tensor,
        published_at_s: tf.Tensor,
        available_from_s: tf.Tensor,
    ) -> tf.Tensor:
        """Items that may be shown from now on: int32 [num_added], their rows.

        item_id, domain, creator: string [num_added].
        vector: float32 [num_added, dim], of unit length.
        content: the same by content alone; zeros or no column where it is unknown. By behaviour they have none.
        published_at_s, available_from_s: int64 [num_added] or [1], seconds since 1970; 0 = unknown, and always.
        An item of the index is active again and otherwise stays as it is, its dates too; one that was added before is
        replaced. An unknown domain counts as none until the index is built anew.
        Raises INVALID_ARGUMENT for an empty or a repeated id, columns or dates that do not fit, vectors that are not
        finite, and where no row is free.
        """
        known = self.rows(item_id)
        is_new = tf.cast(known < 0, tf.int32)
        rows = tf.where(known < 0, self.num_indexed + self._num_added + tf.cumsum(is_new) - 1, known)
        total = self._num_added + tf.reduce_sum(is_new)
        size, dim = tf.size(item_id), self._content.shape[1]
        given, width = tf.unstack(tf.shape(content))
        fits = (width == 0) | (given == size) & ((width == dim) | (dim == 0))
        num_dates = tf.size(published_at_s)
        checks = [
            tf.debugging.Assert(
                tf.reduce_all(tf.stack([tf.shape(vector)[0], tf.size(domain), tf.size(creator)]) == size),
                ["vector, domain and creator must have one value for each item"],
            ),
            tf.debugging.Assert(tf.reduce_all(item_id != ""), ["item_id must not be empty"]),
            tf.debugging.assert_equal(tf.size(tf.unique(item_id).y), tf.size(item_id), "item_id names an item twice"),
            tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(vector)), ["vector must be finite"]),
            tf.debugging.Assert(fits, [f"content must have a row of {dim} for each item, or no column"]),
            tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(content)), ["content must be finite"]),
            tf.debugging.Assert(
                (num_dates == size) | (num_dates == 1),
                ["published_at_s must have one value for each item, or one for all"],
            ),
            tf.debugging.assert_less_equal(
                total, self.num_rows - self.num_indexed, "no row is free for more items: build the index anew"
            ),
        ]
        with tf.control_dependencies(checks):
            at = tf.where(rows >= self.num_indexed)[:, 0]
            changed = tf.gather(rows, at)
            code = lookup(self._domain_codes, domain)
            content = tf.broadcast_to(pad_to(content[:, :dim], dim, 0.0), [size, dim])
            content = from_mean(content, self._content_mean)
            undated = tf.cast(UNDATED_S, tf.int64)
            published, available = (
                tf.broadcast_to(tf.where(dates == 0, undated, dates), [size])
                for dates in (published_at_s, available_from_s)
            )
            columns = (
                (self._vectors, vector),
                (self._content, content),
                (self._has_content, tf.reduce_any(content != 0, 1)),
                (self._item_ids, item_id),
                (self.domains, tf.where(code < 0, NO_DOMAIN, code)),
                (self.creators, creator_codes(creator)),
                (self.published_at_s, published),
                (self.available_from_s, available),
            )
            written = [
                variable.scatter_update(tf.IndexedSlices(tf.gather(values, at), changed))
                for variable, values in columns
            ]
            written += [self._added.insert(tf.gather(item_id, at), changed), self._num_added.assign(total)]
        with tf.control_dependencies([tf.group(*written)]):  # an active row is whole
            self._is_active.scatter_update(tf.IndexedSlices(tf.fill([tf.size(rows)], True), rows))
        _shared_again(*(variable for variable, _ in columns), self._is_active)
        return rows

    def withdraw(self, item_id: tf.Tensor) -> tf.Tensor:
        """Show these items no more: bool of the same shape, whether they were known."""
        rows = self.rows(item_id)
        known = tf.gather(rows, tf.where(rows >= 0)[:, 0])
        self._is_active.scatter_update(tf.IndexedSlices(tf.fill([tf.size(known)], False), known))
        _shared_again(self._is_active)
        return rows >= 0


def _shared_again(*variables: tf.Variable) -> None:
    """Let reads of variables share their memory again: a scattered update has each one copy all of it from then on."""
    for variable in variables:
        tf.raw_ops.DisableCopyOnRead(resource=variable.handle)


def from_mean(vectors, mean) -> tf.Tensor:
    """Unit directions of vectors from their mean, 0 of vectors that are 0: float32 [N, dim].

    Source: Mu & Viswanath, All-but-the-Top, ICLR 2018, of which this is the first step.
    """
    has = tf.reduce_any(vectors != 0, 1, keepdims=True)
    return tf.math.l2_normalize(tf.where(has, vectors - mean, 0.0), 1)


def creator_codes(names: tf.Tensor) -> tf.Tensor:
    """A number for each name, the same wherever it is computed: int64, NO_CREATOR for ""."""
    return tf.where(names == "", tf.constant(NO_CREATOR, tf.int64), tf.strings.to_hash_bucket_fast(names, _CREATORS))
