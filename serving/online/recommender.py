"""The one call: from a person's history to a page of items. The only file with tf.function signatures of the answer.

B requests, L interactions of a request, H most recent known ones, E exclusions, A allowed items, N items, D dimensions, C candidates, O
objectives, K the longest list asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.config import ServingConfig
from serving.index import pad_to
from serving.online import checks
from serving.online.candidates import Candidates, Request, Rules, rows_of
from serving.online.catalog import ANY_TIME, Shelf
from serving.online.cold_start import is_new, vector_of_nobody
from serving.online.explainer import Explainer
from serving.online.histories import Histories, History, KnownPeople
from serving.online.rerank import NEW_PERSON, REASONS, Wishes, choose
from serving.online.scorers import Order, RetrievalOrder
from serving.online.vocabularies import Vocabularies
from trainer.retrieval.similarity import SIMILARITIES

_Strings = tf.TensorSpec([None], tf.string)
_StringLists = tf.TensorSpec([None, None], tf.string)
_Floats = tf.TensorSpec([None], tf.float32)
_FloatLists = tf.TensorSpec([None, None], tf.float32)
_Ints = tf.TensorSpec([None], tf.int32)
_Times = tf.TensorSpec([None], tf.int64)
_ITEM = {name: tf.TensorSpec([None], tf.string, name) for name in ("item_id", "domain", "creator")}


class _Asked(NamedTuple):
    """A batch of requests on the way to their pages."""

    request: Request
    history: History
    time_s: tf.Tensor  # int64 [B]
    weights: tf.Tensor  # float32 [B, O]
    wishes: Wishes
    k: tf.Tensor  # int32 [B]


class _Page(NamedTuple):
    """The places of the pages, [B, K, ...]; position -1 beyond the last."""

    positions: tf.Tensor
    scores: tf.Tensor
    probabilities: tf.Tensor
    reasons: tf.Tensor


class Recommender(tf.Module):
    """Candidates from the index, minus what was seen or excluded, in the order of their utility, for every request of a batch on its own.

    model: the loaded retrieval model, with signatures `user_tower`, `explain_user` and `encode_item` (docs/architecture.md). order: how
    candidates become a page.
    """

    def __init__(self, model, shelf: Shelf, histories: Histories, config: ServingConfig, order: Order | None = None):
        super().__init__()
        self._model, self._shelf = model, shelf
        self._order = order or RetrievalOrder()
        self._user_tower, self._encode_item = (model.signatures[name] for name in ("user_tower", "encode_item"))
        self._nobody = vector_of_nobody(self._user_tower, shelf.vectors.shape[1])
        self._explainer = Explainer(model.signatures["explain_user"], shelf, self._order)
        self._num_candidates = config.index.candidates
        self._candidates, self._alike = Candidates(shelf), Candidates(shelf, SIMILARITIES[config.similar_by])
        self._people = KnownPeople(histories, shelf, Vocabularies(self))

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of the SavedModel; `recommend` is the default one too."""
        raw_item = self._encode_item.structured_input_signature[1]
        return {
            "serving_default": self.recommend.get_concrete_function(),
            "recommend": self.recommend.get_concrete_function(),
            "recommend_user": self.recommend_user.get_concrete_function(),
            "similar": self.similar.get_concrete_function(),
            "explain": self.explain.get_concrete_function(),
            "add_items": self.add_items.get_concrete_function(
                vector=tf.TensorSpec([None, self._shelf.vectors.shape[1]], tf.float32, "vector"), **_ITEM
            ),
            "withdraw_items": self.withdraw_items.get_concrete_function(),
            "encode_user": self.encode_user.get_concrete_function(),
            "encode_item": tf.function(lambda **features: self._encode_item(**features)).get_concrete_function(
                **raw_item
            ),
        }

    @property
    def num_objectives(self) -> int:
        """O."""
        return self._order.num_objectives

    @tf.function(
        input_signature=[
            *(_Strings, _StringLists, _StringLists, _FloatLists, _StringLists, _StringLists, _Strings, _Ints),
            *(_FloatLists, _Floats, _Ints, _Times, _Floats, _Ints, _Times),
        ]
    )
    def recommend(
        self,
        user_id,
        history_ids,
        history_events,
        history_age_s,
        exclude_ids,
        allow_ids,
        domain,
        k,
        objective_weights,
        diversity,
        max_per_creator,
        max_item_age_s,
        explore_share,
        seed,
        time_s,
    ):
        """A page for each person.

        user_id: string [B], "" or unknown = a new person. history_ids: string [B, L], oldest first; "" and unknown ids do not count;
        a history without any known id is replaced by the one known from training. history_events: string [B, L], "" = unknown.
        history_age_s: float32 [B, L], seconds ago, 0 = unknown. exclude_ids: string [B, E], "" and unknown ids do not count.
        allow_ids: string [B, A], nothing else may be shown; a row of "" = anything. domain: string [B], "" = any. k: int32 [B], 1 to
        `checks.MAX_K`. objective_weights: float32 [B, O], in the order of the kinds' names; a row of zeros (or no column) = the configured
        weights. diversity: float32 [B], 0 to 1 (serving.online.rerank). max_per_creator: int32 [B], 0 = any number. max_item_age_s: int64 [B],
        only what was published within so many seconds before `time_s`; 0 = anything, also without a date. explore_share: float32 [B], 0 to
        1, the chance of each place to go to a candidate drawn with `seed`, int32 [B]. time_s: int64 [B], seconds since 1970, 0 = the time
        of the last event known.
        Returns item_ids string [B, K], best first, "" beyond `count`; scores float32 [B, K], the utility, 0 there; probabilities float32
        [B, K, O]; reasons string [B, K] (serving.online.rerank.REASONS); count int32 [B], fewer than k only where fewer are eligible; fallback
        bool [B], true where nothing is known of the person (or the model has no finite vector): the list is then that of new people, its
        scores those of the list; widened bool [B], true where the cap of a creator used the candidates up and all items were searched for
        the best of each creator. K is the largest k asked for.
        Nothing of the histories, given or known, is in the list. Raises INVALID_ARGUMENT where a value or the shapes are wrong.
        """
        history = self._people.history(user_id, history_ids, history_events, history_age_s)
        query = self._encode(user_id, history)
        is_finite = tf.reduce_all(tf.math.is_finite(query), 1)
        batch = tf.shape(user_id)[0]
        required = [
            *checks.of_k(k, domain, batch),
            checks.row_for_each("exclude_ids", exclude_ids, batch),
            checks.row_for_each("allow_ids", allow_ids, batch),
            *checks.of_weights(objective_weights, self.num_objectives, batch),
            *(
                checks.value_for_each(name, values, batch)
                for name, values in (("diversity", diversity), ("explore_share", explore_share))
            ),
            checks.value_for_each("seed", seed, batch),
            *checks.of_limits(max_per_creator, max_item_age_s, time_s, batch),
            checks.is_share("diversity", diversity),
            checks.is_share("explore_share", explore_share),
        ]
        with tf.control_dependencies(required):
            width = tf.maximum(tf.reduce_max(k), 0)  # the maximum of no request at all is the smallest int32
            weights = pad_to(objective_weights, self.num_objectives, 0.0)
            exclude_ids, allow_ids = tf.identity(exclude_ids), tf.identity(allow_ids)
            wishes = Wishes(*map(tf.identity, (diversity, max_per_creator, explore_share, seed)))
            time_s = tf.where(time_s > 0, time_s, self._shelf.now_s)
        rules = self._rules(history.seen, exclude_ids, allow_ids, domain, wishes.of_creator, max_item_age_s, time_s)
        request = Request(
            tf.where(is_finite[:, None], query, 0.0), is_new(query, history.length, self._nobody) | ~is_finite, rules
        )
        asked = _Asked(request, history, time_s, weights, wishes, k)
        page, widened = self._pages(asked, width, self._order, self._candidates)
        shown = (page.positions >= 0) & (tf.range(width)[None] < k[:, None])
        return self._listed(page.positions, page.scores, shown) | {
            "probabilities": tf.where(shown[:, :, None], page.probabilities, 0.0),
            "reasons": tf.where(shown, tf.gather(tf.constant(REASONS), page.reasons), ""),
            "fallback": request.fallback,
            "widened": widened,
        }

    @tf.function(input_signature=[_Strings, _Ints])
    def recommend_user(self, user_id, k):
        """`recommend` for people known from training, by their id alone, everything else at the value that says nothing."""
        batch = tf.shape(user_id)[0]
        strings, floats, zeros = tf.fill([batch, 0], ""), tf.zeros([batch, 0]), tf.zeros([batch])
        none, any_domain = tf.zeros([batch], tf.int32), tf.fill([batch], "")
        whenever = tf.zeros([batch], tf.int64)
        page = self.recommend(
            *(user_id, strings, strings, floats, strings, strings, any_domain, k),
            *(floats, zeros, none, whenever, zeros, none, whenever),
        )
        return {name: page[name] for name in ("item_ids", "scores", "count", "fallback")}

    @tf.function(input_signature=[_Strings, _StringLists, _StringLists, _Strings, _Ints, _Ints, _Times, _Times])
    def similar(self, item_id, exclude_ids, allow_ids, domain, k, max_per_creator, max_item_age_s, time_s):
        """The items nearest to an item, by `ServingConfig.similar_by`, without itself, under the rules of `recommend`.

        item_id: string [B]; an unknown one has none. The rest, and item_ids, scores, count and widened: as `recommend`.
        """
        position = self._shelf.positions(item_id)  # [B]
        is_known = position >= 0
        batch = tf.shape(item_id)[0]
        required = [
            *checks.of_k(k, domain, batch),
            checks.row_for_each("exclude_ids", exclude_ids, batch),
            checks.row_for_each("allow_ids", allow_ids, batch),
            *checks.of_limits(max_per_creator, max_item_age_s, time_s, batch),
        ]
        with tf.control_dependencies(required):
            width = tf.maximum(tf.reduce_max(k), 0)
            exclude_ids, allow_ids = tf.identity(exclude_ids), tf.identity(allow_ids)
            time_s = tf.where(time_s > 0, time_s, self._shelf.now_s)
        rules = self._rules(position[:, None], exclude_ids, allow_ids, domain, max_per_creator, max_item_age_s, time_s)
        query = tf.gather(self._shelf.vectors, tf.maximum(position, 0))
        nobody, nothing = History.empty(batch), tf.zeros([batch])
        wishes = Wishes(nothing, max_per_creator, nothing, tf.zeros([batch], tf.int32))
        asked = _Asked(Request(query, tf.zeros_like(is_known), rules), nobody, time_s, tf.zeros([batch, 0]), wishes, k)
        page, widened = self._pages(asked, width, RetrievalOrder(), self._alike)
        shown = (page.positions >= 0) & (tf.range(width)[None] < k[:, None]) & is_known[:, None]
        return self._listed(page.positions, page.scores, shown) | {"widened": widened & is_known}

    @tf.function
    def add_items(self, item_id, vector, domain, creator):
        """Show items that came after the index was built, from the next request on (serving.online.catalog.Shelf.add).

        item_id, domain, creator: string [B], "" where an item has no domain or creator. vector: float32 [B, D], as `encode_item` gives it.
        Returns position int32 [B]. What is added lives in this server's memory: docs/serving.md says how it outlives it.
        """
        return {"position": self._shelf.add(item_id, vector, domain, creator)}

    @tf.function(input_signature=[_Strings])
    def withdraw_items(self, item_id):
        """Show items no more, from the next request on. item_id: string [B]. Returns known bool [B]."""
        return {"known": self._shelf.withdraw(item_id)}

    @tf.function(input_signature=[_Strings, _StringLists, _StringLists, _FloatLists])
    def encode_user(self, user_id, history_ids, history_events, history_age_s):
        """The person's vector float32 [B, D], from the same inputs as `recommend`."""
        return {
            "vector": self._encode(user_id, self._people.history(user_id, history_ids, history_events, history_age_s))
        }

    @tf.function(input_signature=[_Strings, _StringLists, _StringLists, _FloatLists, _StringLists, _FloatLists, _Times])
    def explain(self, user_id, history_ids, history_events, history_age_s, item_ids, objective_weights, time_s):
        """What the scores of some items are made of; item_ids: string [B, M], the rest: as `recommend`.

        Returns `history_ids` string [B, H], the interactions that count, oldest first, and what `serving.online.explainer.Explainer` does.
        """
        history = self._people.history(user_id, history_ids, history_events, history_age_s)
        batch = tf.shape(user_id)[0]
        required = [
            checks.row_for_each("item_ids", item_ids, batch),
            *checks.of_weights(objective_weights, self.num_objectives, batch),
        ]
        required.append(checks.value_for_each("time_s", time_s, batch))
        with tf.control_dependencies(required):
            weights = pad_to(objective_weights, self.num_objectives, 0.0)
            time_s = tf.where(time_s > 0, time_s, self._shelf.now_s)
        query, positions = self._encode(user_id, history), self._shelf.positions(item_ids)
        explained = self._explainer(user_id, query, history, self._history_vectors(history), positions, time_s, weights)
        names = tf.where(history.items >= 0, self._shelf.item_ids(history.items), "")
        return explained | {"history_ids": names}

    def _encode(self, user_id, history: History):
        vectors = self._history_vectors(history)
        encoded = self._user_tower(
            user_id=user_id, history_vectors=vectors, history_events=history.events, history_age_s=history.age_s
        )
        return encoded["vector"]

    def _history_vectors(self, history: History):
        is_there = tf.cast(history.items >= 0, tf.float32)
        return tf.gather(self._shelf.vectors, tf.maximum(history.items, 0)) * is_there[:, :, None]

    def _rules(self, hidden, exclude_ids, allow_ids, domain, of_creator, max_item_age_s, time_s) -> Rules:
        return Rules(
            hidden=_never_empty(tf.concat([hidden, self._shelf.positions(exclude_ids)], 1)),
            allowed=_never_empty(self._shelf.positions(allow_ids)),
            is_limited=tf.reduce_any(allow_ids != "", 1),
            domain=self._shelf.domain_codes(domain),
            published_from_s=tf.where(max_item_age_s > 0, time_s - max_item_age_s, ANY_TIME),
            of_creator=of_creator,
        )

    def _wanted(self, width):
        """How many candidates a page of `width` is made from; with ScaNN more than its rules are likely to take away."""
        return tf.maximum(self._num_candidates, width if self._shelf.approximate is None else 2 * width)

    def _pages(self, asked: _Asked, width, order: Order, candidates: Candidates) -> tuple[_Page, tf.Tensor]:
        """The pages, and which needed more candidates than the index gives because of the cap of a creator."""
        wanted = self._wanted(width)
        scores, positions = candidates.search(asked.request, wanted, asked.k)
        page = self._page(asked, scores, positions, width, order)
        found = tf.reduce_sum(tf.cast(page.positions >= 0, tf.int32), 1)
        is_short = (asked.wishes.of_creator > 0) & (found < asked.k) & (wanted < self._shelf.num_rows)

        def widen():
            rows = tf.where(is_short)
            part = rows_of(asked, rows)
            best = candidates.search_all(part.request, wanted, cap_creators=True)
            again = self._page(part, best[0], best[1], width, order)
            return tf.nest.map_structure(lambda old, new: tf.tensor_scatter_nd_update(old, rows, new), page, again)

        return tf.cond(tf.reduce_any(is_short), widen, lambda: page), is_short

    def _page(self, asked: _Asked, scores, positions, width, order: Order) -> _Page:
        """The page from candidates: scores float32, positions int32 [B, C]."""
        query, fallback, _ = asked.request
        utility, probabilities = order(scores, positions, query, asked.history, asked.time_s, asked.weights)
        utility = tf.where(fallback[:, None], scores, utility)
        items = tf.maximum(positions, 0)
        vectors, creators = tf.gather(self._shelf.vectors, items), tf.gather(self._shelf.creators, items)
        columns, chosen_by = choose(utility, positions, vectors, creators, asked.wishes, width)
        at = tf.maximum(columns, 0)
        placed = [tf.gather(values, at, batch_dims=1) for values in (positions, utility, probabilities)]
        usual = tf.where(fallback, NEW_PERSON, order.reason)[:, None]
        reasons = tf.where(chosen_by >= 0, chosen_by, usual)
        return _Page(tf.where(columns >= 0, placed[0], -1), placed[1], placed[2], reasons)

    def _listed(self, positions, scores, shown):
        return {
            "item_ids": tf.where(shown, self._shelf.item_ids(positions), ""),
            "scores": tf.where(shown, scores, 0.0),
            "count": tf.reduce_sum(tf.cast(shown, tf.int32), 1),
        }


def _never_empty(positions):
    """With a column more, of none: an empty one cannot be gathered from."""
    return pad_to(positions, tf.shape(positions)[1] + 1, -1)


def cold_start_scores(recent_popularity: np.ndarray, published_at_s: np.ndarray) -> np.ndarray:
    """The order for people we know nothing of: what is popular now, and among equals the newest.

    recent_popularity: float [N], higher = more taken lately. published_at_s: float [N], NaN where unknown: as the oldest.
    Returns float32 [N], finite, 1 for the first place, 1/2 for the second and so on; equal items share a place.
    """
    keys = np.stack([-np.asarray(recent_popularity, np.float64), -np.nan_to_num(published_at_s, nan=-np.inf)])
    _, place = np.unique(keys, axis=1, return_inverse=True)
    return (1 / (1 + place.ravel())).astype(np.float32)
