"""The recommender as one graph: from a user's history to a ranked list. All served signatures are made here.

B requests, H most recent interactions, C candidates, O objectives, K the longest list asked for. Items are rows of the
catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from components.contract import BOTH, VIEWS
from serving.config import ServingConfig
from serving.index import pad_to
from serving.online import checks
from serving.online.candidates import Candidates, Query, Rules
from serving.online.catalog import ANY_TIME, LiveCatalog
from serving.online.cold_start import empty_user_embedding, is_cold_start
from serving.online.explainer import Explainer
from serving.online.histories import Histories, History, HistoryStore
from serving.online.lists import Asked, ListMaker, Ranking
from serving.online.loaded_signatures import LoadedSignatures
from serving.online.requests import (
    EXPLAIN_SPECS,
    RECOMMEND_SPECS,
    SIMILAR_SPECS,
    USER_SPECS,
    ExplainRequest,
    RecommendRequest,
    SimilarRequest,
    UserRequest,
    or_default,
)
from serving.online.rerank import REASONS, RerankOptions
from serving.online.scorers import RetrievalScorer, Scorer, ScoringContext, context_specs
from serving.online.vocabularies import Vocabularies
from trainer.retrieval.similarity import SIMILARITIES, dot

_STRINGS, _INTS = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int32)
_SEEDS = 2**31 - 1
_traced = partial(tf.function, autograph=False)  # no branch here is one by Python's own statements


class RecommenderModel:
    """Candidate generation, scoring and re-ranking for every request of a batch on its own.

    retrieval: the loaded retrieval model, with the signatures `user_tower`, `explain_user`, `encode_item` and, for a
    RankerScorer, `learned_similarity` (docs/artifacts.md).
    """

    def __init__(
        self,
        retrieval: Any,
        catalog: LiveCatalog,
        histories: Histories,
        config: ServingConfig,
        scorer: Scorer | None = None,
    ):
        scorer = scorer or RetrievalScorer()
        dim = catalog.vectors.shape[1]
        self._catalog, self._config, self.num_objectives = catalog, config, scorer.num_objectives
        self._retrieval = LoadedSignatures(
            retrieval, ("user_tower", "explain_user", "learned_similarity", "encode_item")
        )
        self._empty_user = empty_user_embedding(self._retrieval["user_tower"], dim)
        self._explainer = Explainer(self._retrieval, catalog, scorer)
        self.state = tf.Module()  # what the signatures read and write, as it is saved
        stored = HistoryStore(histories, catalog, Vocabularies(self.state))
        self.state.parts = [self._retrieval, catalog, stored, scorer]

        # Each of these is traced once and called by all signatures that need it.
        nearest, similarity = Candidates(catalog), SIMILARITIES[config.similar_by]
        alike = {by: Candidates(catalog, similarity, by) for by in (BOTH, *VIEWS)}
        if similarity is dot:
            alike[BOTH] = nearest
        score = _traced(scorer.score, [*_PAIRS, context_specs(dim, self.num_objectives)])
        self._by_utility = Ranking(nearest, score, scorer.reason)
        self._by_similarity = {
            by: Ranking(candidates, RetrievalScorer().score, RetrievalScorer.reason) for by, candidates in alike.items()
        }
        self._lists = ListMaker(catalog, config.index.candidates)
        self._history = _traced(stored.history, [*USER_SPECS, RECOMMEND_SPECS.time_s])
        self._recommend = _traced(self._recommend_graph, [RECOMMEND_SPECS])
        self._similar = _traced(self._similar_graph, [SIMILAR_SPECS])
        self._explain = _traced(self._explain_graph, [EXPLAIN_SPECS])

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of the SavedModel, whose root is `state`; `recommend` is the default one too."""
        vector = tf.TensorSpec([None, self._catalog.vectors.shape[1]], tf.float32)
        functions: dict[str, tuple[Callable[..., Any], dict[str, tf.TensorSpec]]] = {
            "recommend": (self.recommend, RECOMMEND_SPECS._asdict()),
            "recommend_user": (self.recommend_user, {"user_id": _STRINGS, "k": _INTS}),
            "similar": (self.similar, SIMILAR_SPECS._asdict()),
            "explain": (self.explain, EXPLAIN_SPECS._asdict()),
            "add_items": (
                self.add_items,
                {
                    "item_id": _STRINGS,
                    "vector": vector,
                    "domain": _STRINGS,
                    "creator": _STRINGS,
                    "content": tf.TensorSpec([None, None], tf.float32),
                    "published_at_s": tf.TensorSpec([None], tf.int64),
                },
            ),
            "withdraw_items": (self.withdraw_items, {"item_id": _STRINGS}),
            "encode_user": (self.encode_user, USER_SPECS._asdict()),
            "encode_item": (self.encode_item, self._retrieval["encode_item"].structured_input_signature[1]),
        }
        traced = {
            name: _traced(function).get_concrete_function(**{key: _named(spec, key) for key, spec in specs.items()})
            for name, (function, specs) in functions.items()
        }
        return {"serving_default": traced["recommend"], **traced}

    def recommend(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """A ranked list for each user; inputs: of a RecommendRequest.

        Returns item_ids string [B, K], best first, "" beyond `count`; scores float32 [B, K], the utility, 0 there;
        probabilities float32 [B, K, O]; reasons string [B, K] (serving.online.rerank.REASONS); count int32 [B], fewer
        than k only where fewer are eligible; fallback bool [B], true where nothing is known of the user (or the model
        has no finite vector): the list is then that of new users, its scores those of the list; widened bool [B], true
        where the cap of a creator used the candidates up and all items were searched for the best of each creator. K is
        the largest k asked for. Nothing of the histories, given or known, is in the list, and nothing that is not out
        at the time of the request.
        Raises INVALID_ARGUMENT where a value or the shapes are wrong.
        """
        return self._recommend(RecommendRequest(**inputs))

    def recommend_user(self, user_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """`recommend` for users known from training, by their id alone; all else says nothing."""
        answer = self._recommend(RecommendRequest.of_users(user_id, k))
        return {name: answer[name] for name in ("item_ids", "scores", "count", "fallback")}

    def similar(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The items nearest to an item, by `ServingConfig.similar_by`, without itself; inputs: of a SimilarRequest.

        Returns item_ids, scores, count and widened as `recommend`; by string [B], what orders the list: both where the
        item has no vector by what was asked for.
        """
        return self._similar(SimilarRequest(**inputs))

    def explain(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the scores of some items are made of; inputs: of an ExplainRequest.

        Returns `history_ids` string [B, H], the interactions that count, oldest first, and what
        `serving.online.explainer.Explainer` does.
        """
        return self._explain(ExplainRequest(**inputs))

    def encode_user(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The user's vector float32 [B, dim]; inputs: of a UserRequest."""
        request = UserRequest(**inputs)
        now = tf.zeros(tf.shape(request.user_id), tf.int64)  # that of the last event known
        return {"vector": self._encode(request.user_id, self._history(*request, now))[0]}

    def encode_item(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        """The vectors of raw items, float32 [B, dim], by the retrieval model."""
        return self._retrieval.call("encode_item", **features)

    def add_items(self, item_id, vector, domain, creator, content, published_at_s) -> dict[str, tf.Tensor]:
        """Show items that came after the index was built, from the next request on, or from the day on which they are
        published (`LiveCatalog.add`).

        item_id, domain, creator: string [B], "" where an item has no domain or creator. vector, content: float32 [B,
        dim], as `encode_item` gives them; content may be without a column. published_at_s: int64 [B], or [1] for all,
        seconds since 1970, 0 = unknown. Returns position int32 [B], their rows. What is added lives in this server's
        memory: docs/refresh.md says how it outlives it.
        """
        shown_from_s = tf.zeros_like(published_at_s) if self._config.show_unreleased else published_at_s
        rows = self._catalog.add(item_id, vector, domain, creator, content, published_at_s, shown_from_s)
        return {"position": rows}

    def withdraw_items(self, item_id) -> dict[str, tf.Tensor]:
        """Show items no more, from the next request on. item_id: string [B]. Returns known bool [B]."""
        return {"known": self._catalog.withdraw(item_id)}

    def _recommend_graph(self, request: RecommendRequest):
        with tf.control_dependencies([checks.of_recommend(request, self.num_objectives)]):
            request = tf.nest.map_structure(tf.identity, request)
            width = tf.maximum(tf.reduce_max(request.k), 0)  # the maximum of no request at all is the smallest int32
        history = self._history(*request[: len(UserRequest._fields)], request.time_s)
        vector, _ = self._encode(request.user_id, history)
        is_finite = tf.reduce_all(tf.math.is_finite(vector), 1)
        is_new = is_cold_start(vector, history.length, self._empty_user) | ~is_finite
        options = self._options(request)
        rules = self._rules(history.seen, request, options)
        query = Query(tf.where(is_finite[:, None], vector, 0.0), is_new, rules)
        asked = Asked(query, self._context(query.vector, history, request), options, request.k)
        ranked, full_scan = self._lists.make(asked, width, self._by_utility)
        shown = (ranked.items >= 0) & (tf.range(width)[None] < request.k[:, None])
        return self._listed(ranked.items, ranked.scores, shown) | {
            "probabilities": tf.where(shown[:, :, None], ranked.probabilities, 0.0),
            "reasons": tf.where(shown, tf.gather(tf.constant(REASONS), ranked.reasons), ""),
            "fallback": is_new,
            "widened": full_scan,
        }

    def _similar_graph(self, request: SimilarRequest):
        with tf.control_dependencies([checks.of_similar(request)]):
            request = tf.nest.map_structure(tf.identity, request)
            width = tf.maximum(tf.reduce_max(request.k), 0)
        item = self._catalog.rows(request.item_id)  # [B]
        is_known = item >= 0
        options = self._options(request)
        rules = self._rules(item[:, None], request, options)
        by = self._told_by(request.by, item)
        shape = [tf.size(item), width]
        found = tf.fill(shape, -1), tf.zeros(shape), tf.zeros_like(is_known)
        for name, ranking in self._by_similarity.items():
            vector = tf.gather(self._catalog.vectors_by(name), tf.maximum(item, 0))
            asked = Asked(Query(vector, tf.zeros_like(is_known), rules), (), options, request.k)
            found = self._lists.make_some(found, tf.where(by == name), asked, width, ranking)
        items, scores, full_scan = found
        shown = (items >= 0) & (tf.range(width)[None] < request.k[:, None]) & is_known[:, None]
        return self._listed(items, scores, shown) | {"widened": full_scan & is_known, "by": by}

    def _told_by(self, by, item):
        """What orders each list of similar items: string [B]; both where its item, int32 [B], has nothing else."""
        by = tf.broadcast_to(tf.where(by == "", BOTH, by), tf.shape(item))
        for name in VIEWS:
            has = tf.gather(self._catalog.has_vectors_by(name), tf.maximum(item, 0)) & (item >= 0)
            by = tf.where((by == name) & ~has, BOTH, by)
        return by

    def _explain_graph(self, request: ExplainRequest):
        with tf.control_dependencies([checks.of_explain(request, self.num_objectives)]):
            request = tf.nest.map_structure(tf.identity, request)
        history = self._history(*request[: len(UserRequest._fields)], request.time_s)
        vector, vectors = self._encode(request.user_id, history)
        context = self._context(vector, history, request)
        explained = self._explainer(request.user_id, vectors, self._catalog.rows(request.item_ids), context)
        names = tf.where(history.items >= 0, self._catalog.item_ids(history.items), "")
        return explained | {"history_ids": names}

    def _encode(self, user_id, history: History):
        """The users' vectors float32 [B, dim], and those of their interactions [B, H, dim], zeros where padded."""
        is_there = tf.cast(history.items >= 0, tf.float32)
        vectors = tf.gather(self._catalog.vectors, tf.maximum(history.items, 0)) * is_there[:, :, None]
        encoded = self._retrieval.call(
            "user_tower",
            user_id=user_id,
            history_vectors=vectors,
            history_events=history.events,
            history_age_s=history.age_s,
        )
        return tf.ensure_shape(encoded["vector"], [None, vectors.shape[2]]), vectors

    def _context(self, vector, history: History, request: RecommendRequest | ExplainRequest) -> ScoringContext:
        weights = tf.ensure_shape(
            pad_to(request.objective_weights, self.num_objectives, 0.0), [None, self.num_objectives]
        )
        return ScoringContext(vector, history, self._catalog.time_or_now(request.time_s), weights)

    def _options(self, request: RecommendRequest | SimilarRequest) -> RerankOptions:
        """What the request says of its list, and what the operator does where it says nothing."""
        defaults = self._config.defaults
        max_per_creator = or_default(request.max_per_creator, defaults.max_per_creator)
        if isinstance(request, SimilarRequest):
            nothing = tf.zeros(tf.shape(request.k))
            return RerankOptions(nothing + 1, max_per_creator, nothing, tf.zeros_like(request.k))
        asker = tf.strings.join([request.user_id, tf.strings.as_string(request.time_s)], "\n")
        own = tf.cast(tf.strings.to_hash_bucket_fast(asker, _SEEDS), tf.int32)
        return RerankOptions(
            1 - or_default(request.diversity, defaults.diversity),
            max_per_creator,
            or_default(request.explore_share, defaults.explore_share),
            tf.where(request.seed == 0, own, request.seed),  # 0 would explore the same positions for everybody
        )

    def _rules(self, excluded, request: RecommendRequest | SimilarRequest, options: RerankOptions) -> Rules:
        time_s = self._catalog.time_or_now(request.time_s)
        is_aged = request.max_item_age_s > 0
        return Rules(
            excluded=_never_empty(tf.concat([excluded, self._catalog.rows(request.exclude_ids)], 1)),
            allowed=_never_empty(self._catalog.rows(request.allow_ids)),
            is_limited=tf.reduce_any(request.allow_ids != "", 1),
            domain=self._catalog.domain_codes(request.domain),
            published_from_s=tf.where(is_aged, time_s - request.max_item_age_s, ANY_TIME),
            available_by_s=tf.where(time_s > 0, time_s, tf.int64.max),
            max_per_creator=options.max_per_creator,
        )

    def _listed(self, items, scores, shown):
        return {
            "item_ids": tf.where(shown, self._catalog.item_ids(items), ""),
            "scores": tf.where(shown, scores, 0.0),
            "count": tf.reduce_sum(tf.cast(shown, tf.int32), 1),
        }


_PAIRS = (tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.int32))  # similarity and items


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name)


def _never_empty(items):
    """With a column more, of none: an empty one cannot be gathered from."""
    return pad_to(items, tf.shape(items)[1] + 1, -1)
