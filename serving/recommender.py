"""The one call: from a person's history to a page of items. The only file with tf.function signatures.

B requests, L interactions of a request, H most recent known ones, E exclusions, N items, D dimensions, K the longest list asked for.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from serving.config import ServingConfig
from serving.index import ExactIndex, Index, pad_to

MAX_K = 10_000  # a longer list is a mistake in the request, not a page
_ANY_DOMAIN, _UNKNOWN_DOMAIN, _NO_DOMAIN = -1, -2, -3
_NO_NAME = "\0"
_SCORES_AT_ONCE = 2**25  # float32 scores of one exact step: 128 MiB

_Strings = tf.TensorSpec([None], tf.string)
_StringLists = tf.TensorSpec([None, None], tf.string)
_FloatLists = tf.TensorSpec([None, None], tf.float32)
_Ints = tf.TensorSpec([None], tf.int32)


@dataclass(frozen=True)
class Histories:
    """What the people known at training time did, so that `user_id` alone is a full request.

    splits: int64 [U + 1], the bounds of each user's rows in the others. items: int32 [T] positions, oldest first.
    events: int32 [T], which of `event_names`. age_s: float32 [T], seconds before the last event of the data, 0 where unknown.
    """

    user_ids: Sequence[str]
    splits: np.ndarray
    items: np.ndarray
    events: np.ndarray
    age_s: np.ndarray
    event_names: Sequence[str]


@dataclass(frozen=True)
class Catalogue:
    """What the answer needs to know of the items, in the order of the index.

    domains: "" where an item has none. cold_start: float32 [N], the score of each item for people we know nothing of.
    """

    item_ids: Sequence[str]
    domains: Sequence[str]
    cold_start: np.ndarray


class Recommender(tf.Module):
    """Candidates from the index, minus what was seen or excluded, for every request of a batch on its own.

    model: the loaded retrieval model, with signatures `user_tower` and `encode_item` (docs/architecture.md).
    Raises ValueError where ids cannot be a line of a vocabulary file, or the parts are not of the same items.
    """

    def __init__(self, model, index: Index, catalogue: Catalogue, histories: Histories, config: ServingConfig):
        super().__init__()
        lengths = {index.num_items, len(catalogue.item_ids), len(catalogue.domains), len(catalogue.cold_start)}
        if len(lengths) > 1:
            raise ValueError(f"index, item ids, domains and cold-start scores are of different catalogues: {sorted(lengths)} items")
        if not np.isfinite(catalogue.cold_start).all():
            raise ValueError("cold-start scores must be finite")
        self._model, self._index = model, index
        self._user_tower, self._encode_item = (model.signatures[name] for name in ("user_tower", "encode_item"))
        self._history_length = config.history_length
        domain_names = sorted(set(catalogue.domains) - {""})
        self._vocabularies = tempfile.mkdtemp(prefix="zhiyin-vocabularies-")  # until the SavedModel has its copies
        weakref.finalize(self, shutil.rmtree, self._vocabularies, ignore_errors=True)
        self._item_positions = self._line_numbers(catalogue.item_ids, "item_ids.txt")
        self._user_rows = self._line_numbers(histories.user_ids, "user_ids.txt")
        self._domain_codes = self._line_numbers(domain_names, "domains.txt")
        code_of = {name: code for code, name in enumerate(domain_names)} | {"": _NO_DOMAIN}
        self._item_ids = _fixed(np.array(list(catalogue.item_ids), object), tf.string)  # [N]
        self._domains = _fixed([code_of[name] for name in catalogue.domains], tf.int32)  # [N]
        self._cold_start = _fixed(catalogue.cold_start, tf.float32)  # [N]
        self._splits = _fixed(histories.splits, tf.int64)  # [U + 1]
        self._history_items = _fixed(histories.items, tf.int32)  # [T]
        self._history_events = _fixed(histories.events, tf.int32)  # [T]
        self._history_age_s = _fixed(histories.age_s, tf.float32)  # [T]
        self._event_names = _fixed(np.array([*histories.event_names, ""], object), tf.string)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of the SavedModel; `recommend` is the default one too."""
        raw_item = self._encode_item.structured_input_signature[1]
        return {
            "serving_default": self.recommend.get_concrete_function(),
            "recommend": self.recommend.get_concrete_function(),
            "recommend_user": self.recommend_user.get_concrete_function(),
            "similar": self.similar.get_concrete_function(),
            "encode_user": self.encode_user.get_concrete_function(),
            "encode_item": tf.function(lambda **features: self._encode_item(**features)).get_concrete_function(**raw_item),
        }

    @tf.function(input_signature=[_Strings, _StringLists, _StringLists, _FloatLists, _StringLists, _Strings, _Ints])
    def recommend(self, user_id, history_ids, history_events, history_age_s, exclude_ids, domain, k):
        """A page for each person.

        user_id: string [B], "" or unknown = a new person. history_ids: string [B, L], oldest first; "" and unknown ids do not count;
        a history without any known id is replaced by the one known from training. history_events: string [B, L], "" = unknown.
        history_age_s: float32 [B, L], seconds ago, 0 = unknown. exclude_ids: string [B, E], "" and unknown ids do not count.
        domain: string [B], "" = any. k: int32 [B], 1 to MAX_K.
        Returns item_ids string [B, K], best first, "" beyond `count`; scores float32 [B, K], 0 there; count int32 [B], fewer than k only
        where fewer are eligible; fallback bool [B], true where nothing is known of the person (or the model has no finite vector): the
        list is then that of new people. K is the largest k asked for.
        Nothing of the histories, given or known, is in the list. Raises INVALID_ARGUMENT where k or the shapes are wrong.
        """
        request = self._history(user_id, history_ids, history_events, history_age_s)
        query = self._encode(user_id, request)
        fallback = (request["length"] == 0) | ~tf.reduce_all(tf.math.is_finite(query), 1)
        check = tf.debugging.assert_equal(tf.shape(exclude_ids)[0], tf.shape(user_id)[0], "exclude_ids must have a row for each user_id")
        with tf.control_dependencies([check]):
            exclude_ids = tf.identity(exclude_ids)
        hidden = tf.concat([request["seen"], _lookup(self._item_positions, exclude_ids)], 1)  # [B, H']
        return self._answer(query, fallback, hidden, domain, k) | {"fallback": fallback}

    @tf.function(input_signature=[_Strings, _Ints])
    def recommend_user(self, user_id, k):
        """`recommend` for people known from training, by their id alone: no history given, nothing excluded, any domain."""
        batch = tf.shape(user_id)[0]
        strings, ages = tf.fill([batch, 0], ""), tf.zeros([batch, 0])
        return self.recommend(user_id, strings, strings, ages, strings, tf.fill([batch], ""), k)

    @tf.function(input_signature=[_Strings, _Ints])
    def similar(self, item_id, k):
        """The items nearest to an item, by cosine, without itself.

        item_id: string [B]; an unknown one has none. k: int32 [B]. Returns item_ids, scores and count as `recommend`.
        """
        position = _lookup(self._item_positions, item_id)  # [B]
        query = tf.gather(self._index.vectors, tf.maximum(position, 0))
        is_known = position >= 0
        no_fallback = tf.zeros_like(is_known)
        answer = self._answer(query, no_fallback, position[:, None], tf.fill(tf.shape(item_id), ""), k)
        return {
            "item_ids": tf.where(is_known[:, None], answer["item_ids"], ""),
            "scores": tf.where(is_known[:, None], answer["scores"], 0.0),
            "count": tf.where(is_known, answer["count"], 0),
        }

    @tf.function(input_signature=[_Strings, _StringLists, _StringLists, _FloatLists])
    def encode_user(self, user_id, history_ids, history_events, history_age_s):
        """The person's vector float32 [B, D], from the same inputs as `recommend`."""
        return {"vector": self._encode(user_id, self._history(user_id, history_ids, history_events, history_age_s))}

    def _line_numbers(self, names: Sequence[str], filename: str) -> tf.lookup.StaticHashTable:
        """A table from name to its line in the asset: 0 for unknown names, then the names. TensorFlow refuses an empty file or line."""
        unusable = [name for name in names if not name or set(name) & {"\n", "\r", _NO_NAME}]
        if unusable or len(set(names)) != len(names):
            raise ValueError(f"{filename}: ids must be distinct, not empty and on one line; got {unusable[:3] or 'repeated ids'}")
        path = Path(self._vocabularies, filename)
        path.write_text("".join(f"{name}\n" for name in [_NO_NAME, *names]), "utf-8")
        initializer = tf.lookup.TextFileInitializer(
            str(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        return tf.lookup.StaticHashTable(initializer, 0)

    def _history(self, user_id, history_ids, history_events, history_age_s):
        """The most recent known interactions, right-padded: items [B, H] (-1), events, age_s, length [B]; seen [B, *] is all of them."""
        shape = tf.shape(history_ids)
        checks = [
            tf.debugging.assert_equal(shape[0], tf.shape(user_id)[0], "history_ids must have a row for each user_id"),
            tf.debugging.assert_equal(tf.shape(history_events), shape, "history_events must have the shape of history_ids"),
            tf.debugging.assert_equal(tf.shape(history_age_s), shape, "history_age_s must have the shape of history_ids"),
        ]
        with tf.control_dependencies(checks):
            given = _lookup(self._item_positions, tf.identity(history_ids))
        is_known = given >= 0
        given_rows = [tf.ragged.boolean_mask(values, is_known) for values in (given, history_events, history_age_s)]
        rows = _lookup(self._user_rows, user_id)
        starts, stops = (tf.gather(self._splits, tf.where(rows >= 0, rows + end, 0)) for end in (0, 1))
        at = tf.ragged.range(starts, stops)
        events = tf.gather(self._event_names, tf.gather(self._history_events, at))
        stored_rows = [tf.gather(self._history_items, at), events, tf.gather(self._history_age_s, at)]
        is_given = tf.reduce_any(is_known, 1)
        fills = (-1, "", 0.0)
        recent = []
        for given_row, stored_row, fill in zip(given_rows, stored_rows, fills):
            pair = [row[:, -self._history_length :].to_tensor(fill) for row in (given_row, stored_row)]
            width = tf.maximum(tf.maximum(tf.shape(pair[0])[1], tf.shape(pair[1])[1]), 1)
            recent.append(tf.where(is_given[:, None], *(pad_to(values, width, fill) for values in pair)))
        items, events, age_s = recent
        age_s = tf.where(tf.math.is_finite(age_s), tf.maximum(age_s, 0.0), 0.0)
        seen = tf.concat([given, stored_rows[0].to_tensor(-1)], 1)
        return {"items": items, "events": events, "age_s": age_s, "length": tf.reduce_sum(tf.cast(items >= 0, tf.int32), 1), "seen": seen}

    def _encode(self, user_id, history):
        is_there = history["items"] >= 0
        vectors = tf.gather(self._index.vectors, tf.maximum(history["items"], 0)) * tf.cast(is_there, tf.float32)[:, :, None]
        events, age_s = history["events"], history["age_s"]
        encoded = self._user_tower(user_id=user_id, history_vectors=vectors, history_events=events, history_age_s=age_s)
        return encoded["vector"]

    def _answer(self, query, fallback, hidden, domain, k):
        """The page: query float32 [B, D], fallback bool [B], hidden int32 [B, H] positions (-1 = none), domain string [B], k int32 [B]."""
        batch = tf.shape(query)[0]
        checks = [
            tf.debugging.assert_positive(k, "k must be at least 1"),
            tf.debugging.assert_less_equal(k, MAX_K, f"k must be at most {MAX_K}"),
            tf.debugging.assert_equal(tf.shape(k)[0], batch, "k must have one value for each request"),
            tf.debugging.assert_equal(tf.shape(domain)[0], batch, "domain must have one value for each request"),
        ]
        with tf.control_dependencies(checks):
            width = tf.maximum(tf.reduce_max(k), 0)  # the maximum of no request at all is the smallest int32
            hidden = pad_to(hidden, tf.shape(hidden)[1] + 1, -1)  # never without a column: an empty one cannot be gathered from
        code = _lookup(self._domain_codes, domain)
        code = tf.where(domain == "", _ANY_DOMAIN, tf.where(code < 0, _UNKNOWN_DOMAIN, code))
        scores, positions = self._search(query, fallback, hidden, code, width, k)
        shown = (positions >= 0) & (tf.range(width)[None] < k[:, None])
        return {
            "item_ids": tf.where(shown, tf.gather(self._item_ids, tf.maximum(positions, 0)), ""),
            "scores": tf.where(shown, scores, 0.0),
            "count": tf.reduce_sum(tf.cast(shown, tf.int32), 1),
        }

    def _search(self, query, fallback, hidden, domain, width, k):
        """The best eligible items: scores and positions [B, width], -1 beyond them."""
        if isinstance(self._index, ExactIndex):
            return self._search_all(query, fallback, hidden, domain, width)
        wanted = tf.minimum(tf.maximum(self._index.candidates, 2 * width), self._index.num_items)
        scores, positions = self._index.search(tf.where(fallback[:, None], 0.0, query), wanted)  # [B, C]
        ordered = tf.sort(hidden, 1)
        ordered = tf.concat([ordered, tf.fill([tf.shape(hidden)[0], 1], self._index.num_items)], 1)  # so that each search ends somewhere
        at = tf.searchsorted(ordered, positions)
        is_hidden = tf.gather(ordered, at, batch_dims=1) == positions
        fits = (domain[:, None] == _ANY_DOMAIN) | (tf.gather(self._domains, tf.maximum(positions, 0)) == domain[:, None])
        eligible = (positions >= 0) & ~is_hidden & fits
        order = tf.argsort(tf.cast(~eligible, tf.int32), 1, stable=True)[:, :width]  # the eligible first, still best first
        scores, positions = (
            pad_to(tf.gather(tf.where(eligible, values, fill), order, batch_dims=1), width, fill)
            for values, fill in ((scores, -np.inf), (positions, -1))
        )
        found = tf.reduce_sum(tf.cast(positions >= 0, tf.int32), 1)
        short = tf.where(fallback | (found < k))  # [S, 1]: rules left too few, so all items are scored
        query, fallback, hidden, domain = (tf.gather_nd(values, short) for values in (query, fallback, hidden, domain))
        all_scores, all_positions = self._search_all(query, fallback, hidden, domain, width)
        return (
            tf.tensor_scatter_nd_update(scores, short, all_scores),
            tf.tensor_scatter_nd_update(positions, short, all_positions),
        )

    def _search_all(self, query, fallback, hidden, domain, width):
        """`_search` over every item, in steps of so many rows that memory stays flat."""
        batch, num_items = tf.shape(query)[0], self._index.num_items
        step = max(1, _SCORES_AT_ONCE // num_items)
        num_steps = tf.maximum((batch + step - 1) // step, 1)
        scores = tf.TensorArray(tf.float32, num_steps, infer_shape=False, element_shape=[None, None])
        positions = tf.TensorArray(tf.int32, num_steps, infer_shape=False, element_shape=[None, None])
        for number in tf.range(num_steps):
            rows = slice(number * step, (number + 1) * step)
            best = self._best_of_all(query[rows], fallback[rows], hidden[rows], domain[rows], width)
            scores, positions = scores.write(number, best[0]), positions.write(number, best[1])
        shape = [batch, width]
        return tf.reshape(scores.concat(), shape), tf.reshape(positions.concat(), shape)

    def _best_of_all(self, query, fallback, hidden, domain, width):
        scores = tf.matmul(query, self._index.vectors, transpose_b=True)  # [B, N]
        scores = tf.where(fallback[:, None], self._cold_start[None], scores)
        fits = (domain[:, None] == _ANY_DOMAIN) | (self._domains[None] == domain[:, None])
        scores = tf.where(fits, scores, -np.inf)
        at = tf.where(hidden >= 0)  # [S, 2]
        cells = tf.stack([at[:, 0], tf.cast(tf.gather_nd(hidden, at), tf.int64)], 1)
        scores = tf.tensor_scatter_nd_update(scores, cells, tf.fill([tf.shape(at)[0]], -np.inf))
        scores, positions = tf.math.top_k(scores, tf.minimum(width, self._index.num_items))
        positions = tf.where(scores == -np.inf, -1, positions)
        return pad_to(scores, width, -np.inf), pad_to(positions, width, -1)


def cold_start_scores(recent_popularity: np.ndarray, published_at_s: np.ndarray) -> np.ndarray:
    """The order for people we know nothing of: what is popular now, and among equals the newest.

    recent_popularity: float [N], higher = more taken lately. published_at_s: float [N], NaN where unknown: as the oldest.
    Returns float32 [N], finite, 1 for the first place, 1/2 for the second and so on; equal items share a place.
    """
    keys = np.stack([-np.asarray(recent_popularity, np.float64), -np.nan_to_num(published_at_s, nan=-np.inf)])
    _, place = np.unique(keys, axis=1, return_inverse=True)
    return (1 / (1 + place.ravel())).astype(np.float32)


def _lookup(table: tf.lookup.StaticHashTable, names: tf.Tensor) -> tf.Tensor:
    """Places of names in their list, int32, -1 for unknown ones."""
    return tf.cast(table.lookup(names), tf.int32) - 1


def _fixed(values, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.constant(values, dtype), trainable=False)
