"""From a request to a list: the person's events, the model, and what stands in where one of them is away.

The chain: the model; the person's last good list; the popular items; the latest. Each step down is marked in the
answer, with the cause.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

from serving.gateway import experiments
from serving.gateway.admission import Admission
from serving.gateway.breaker import CircuitBreaker
from serving.gateway.catalog import Catalog
from serving.gateway.config import ServerSettings
from serving.gateway.exposures import ExposureLog
from serving.gateway.fallbacks import Fallback, Fallbacks
from serving.gateway.histories import history_of
from serving.gateway.metrics import Metrics, at_model_s
from serving.gateway.model_client import TOO_LATE, ModelClient, ModelRefused, ModelUnavailable
from serving.gateway.model_requests import ExplainAnswer, History, ListAnswer, RecommendRequest, Rules
from serving.gateway.problems import OVERLOADED, Problem, unavailable
from serving.gateway.records import Event, Exposure, UserState
from serving.gateway.stores.base import Store, StoreUnavailable, within
from serving.gateway.tracing import Tracing

STORE_SHARE = 0.5  # of what is left of the budget, for the store; the model gets the rest
MARGIN_S = 0.002  # kept back for the answer itself
MAX_EXPLANATIONS = 4  # at once: each keeps the model busy for as long as many lists


@dataclass(frozen=True)
class Ask:
    """What a caller wants to know."""

    request_id: str
    deadline: float  # of time.monotonic()
    user_id: str  # as it is kept; "" for a session
    k: int
    marks: tuple[str, ...] = ()  # tombstones that tell whether the person is forgotten
    rules: Rules = Rules()
    objective_weights: tuple[float, ...] = ()
    diversity: float = 0.0
    exploration_rate: float = 0.0
    seed: int = 0
    events: tuple[Event, ...] = ()  # of a session, oldest first; else the store's
    stated: frozenset[str] = frozenset()  # names of what the caller has said himself


@dataclass(frozen=True)
class Degraded:
    """Who answered in place of the model, or without the store, and why."""

    answered_by: str  # model, last_list, popular, latest
    cause: str


@dataclass(frozen=True)
class Answer:
    """A list and where it comes from."""

    item_ids: list[str]
    scores: list[float]
    probabilities: list[list[float]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    model_version: int = 0
    variants: dict[str, str] = field(default_factory=dict)
    is_new_user: bool = False
    by: str = ""  # of similar items: what orders them
    degraded: Degraded | None = None


class Answers:
    """Answers requests for lists."""

    def __init__(
        self,
        settings: ServerSettings,
        store: Store,
        client: ModelClient,
        catalog: Catalog,
        exposures: ExposureLog,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._settings, self._store, self._client, self._catalog = settings, store, client, catalog
        self._exposures, self._metrics, self._tracing = exposures, metrics, tracing
        config = settings.gateway
        self.breaker = CircuitBreaker(config.breaker_failures, config.breaker_retry_s)
        self.admission = Admission(config.max_in_flight, config.budget_ms / 1000)
        metrics.loop_lag_seconds.set_function(lambda: self.admission.lag.seconds)
        self._explanations = 0  # under way
        self._forgets = 0  # people
        self._fallbacks = Fallbacks(catalog, config, settings.list_defaults)

    async def recommend(self, ask: Ask) -> Answer:
        """A list for a person or a session. Raises Problem 503 where too many lists are under way already."""
        return await self._admitted(self._recommend, ask)

    async def _recommend(self, ask: Ask) -> Answer:
        forgets = self._forgets
        state, store_cause = await self._state(ask)
        if state.is_forgotten:  # another gateway was told
            self._fallbacks.forget(ask.user_id)
        user_id = "" if state.is_forgotten or store_cause else ask.user_id
        now_s = int(time.time())
        history = history_of(state.events, self._settings.data.event_rules, now_s)
        variants = experiments.assignments(self._settings.gateway.experiments, ask.user_id)
        request = self._under(variants, _model_request(ask, user_id, history, now_s), ask.stated)
        try:
            found = await self._ask_model(request, ask.deadline)
        except ModelUnavailable as error:
            whose = "" if state.is_forgotten else ask.user_id
            stood_in = _stood_in(self._fallbacks.for_person(whose, request), error.cause)
            answer = replace(stood_in, variants=variants)  # a variant that fails is not spared the comparison
        else:
            degraded = Degraded("model", store_cause) if store_cause else None
            answer = replace(self._shown(found), variants=variants, degraded=degraded)
            if forgets == self._forgets:  # else it may be this person who was forgotten meanwhile
                self._fallbacks.remember(user_id, answer.item_ids, answer.scores)
        if answer.degraded:
            self._metrics.degraded.labels(answer.degraded.answered_by, answer.degraded.cause).inc()
        if not state.is_forgotten and not store_cause:  # nobody who may have been forgotten is written down
            self._log(ask, answer, now_s)
        return answer

    async def similar(self, item_id: str, by: str, k: int, rules: Rules, deadline: float) -> Answer:
        """The items nearest to one, by content, behaviour or both; the popular ones of its domain without the model.

        Raises Problem 503 where too many lists are under way already.
        """
        return await self._admitted(self._similar, item_id, by, k, rules, deadline)

    async def _similar(self, item_id: str, by: str, k: int, rules: Rules, deadline: float) -> Answer:
        now_s = int(time.time())
        try:
            answer = await self._guarded(
                "similar", deadline, lambda left_s: self._client.similar(item_id, by, k, rules, now_s, left_s)
            )
        except ModelUnavailable as error:
            item = self._catalog.get(item_id)
            domain = rules.domain or str((item.fields.get("domain") if item else None) or "")
            found = self._fallbacks.for_anybody(k, replace(rules, domain=domain), frozenset([item_id]))
            self._metrics.degraded.labels(found.answered_by, error.cause).inc()
            return _stood_in(found, error.cause)
        return self._shown(answer)

    async def explain(self, ask: Ask, item_id: str) -> ExplainAnswer:
        """What an item's score for a person is made of.

        Raises Problem 503 where the model is away, or busy with MAX_EXPLANATIONS others.
        """
        if self._explanations >= MAX_EXPLANATIONS:
            raise self._overloaded()
        self._explanations += 1
        try:
            return await self._explain(ask, item_id)
        except ModelUnavailable as error:
            raise unavailable("model-unavailable", f"the model cannot explain now ({error.cause})") from error
        finally:
            self._explanations -= 1

    async def _explain(self, ask: Ask, item_id: str) -> ExplainAnswer:
        state, cause = await self._state(ask)
        history = history_of(state.events, self._settings.data.event_rules, int(time.time()))
        known = "" if state.is_forgotten or cause else ask.user_id
        return await self._guarded(
            "explain",
            ask.deadline,
            lambda left_s: self._client.explain(known, history, item_id, int(time.time()), left_s),
        )

    async def _admitted(self, work: Callable[..., Awaitable[Answer]], *arguments: Any) -> Answer:
        if not self.admission.enter():
            raise self._overloaded()
        started, is_models = time.monotonic(), False
        self._metrics.in_flight.set(self.admission.in_flight)
        try:
            answer = await work(*arguments)
            is_models = answer.degraded is None
            return answer
        finally:
            self.admission.leave(time.monotonic() - started, is_models)
            self._metrics.in_flight.set(self.admission.in_flight)
            self._metrics.in_flight_bound.set(self.admission.bound)

    def _overloaded(self) -> Problem:
        self._metrics.refused.labels("overloaded").inc()
        return unavailable("overloaded", OVERLOADED)

    async def _state(self, ask: Ask) -> tuple[UserState, str]:
        """What is known of the person, and why nothing is."""
        if not ask.user_id:
            return UserState(ask.events), ""
        limit = self._settings.gateway.history_events
        seconds = STORE_SHARE * (ask.deadline - time.monotonic())
        started = time.monotonic()
        try:
            with self._tracing.span("store.user_state"):
                state = await within(self._store.user_state(ask.user_id, ask.marks, limit), seconds)
        except StoreUnavailable:
            return UserState(), "store_unavailable"
        finally:
            self._metrics.store_seconds.labels("user_state").observe(time.monotonic() - started)
        return replace(state, events=state.events + ask.events), ""

    def _under(self, variants: dict[str, str], request: RecommendRequest, stated: frozenset[str]) -> RecommendRequest:
        for name, variant in variants.items():
            config = self._settings.gateway.experiments[name].variants[variant]
            request = experiments.applied(request, config, self._settings.kinds, stated)
        return request

    async def _ask_model(self, request: RecommendRequest, deadline: float) -> ListAnswer:
        return await self._guarded("recommend", deadline, lambda left_s: self._client.recommend(request, left_s))

    async def _guarded(self, signature: str, deadline: float, call):
        """A call of the model behind the circuit breaker and the deadline. Raises ModelUnavailable."""
        if not self.breaker.allows():
            raise ModelUnavailable("circuit_open", "the model has failed several times in a row")
        started = time.monotonic()
        left_s = deadline - started - MARGIN_S
        try:
            with self._tracing.span(f"model.{signature}"):
                answer = await call(left_s)
        except ModelUnavailable as error:
            is_late = error.cause in (TOO_LATE, "deadline_exceeded")
            if not is_late or left_s >= self._settings.gateway.budget_ms / 4000:
                self.breaker.failed()  # a caller's own tiny budget says nothing of the model
            raise
        except ModelRefused as error:
            raise ModelUnavailable("model_refused", str(error)) from error
        else:
            self.breaker.succeeded()
            self._metrics.model_version.set(answer.version)
            return answer
        finally:
            self._metrics.breaker_open.set(self.breaker.is_open)
            seconds = time.monotonic() - started
            at_model_s.set(at_model_s.get() + seconds)
            self._metrics.model_seconds.labels(signature).observe(seconds)

    def _shown(self, found: ListAnswer) -> Answer:
        """The model's list without what was withdrawn a moment ago."""
        kept = [place for place, item_id in enumerate(found.item_ids) if self._catalog.is_shown(item_id)]
        return Answer(
            item_ids=[found.item_ids[place] for place in kept],
            scores=[found.scores[place] for place in kept],
            probabilities=[found.probabilities[place] for place in kept] if found.probabilities else [],
            reasons=[found.reasons[place] for place in kept] if found.reasons else [],
            model_version=found.version,
            is_new_user=found.is_new_user,
            by=found.by,
        )

    def forget(self, user_id: str) -> None:
        """Drop what is remembered of a person."""
        self._forgets += 1
        self._fallbacks.forget(user_id)

    def _log(self, ask: Ask, answer: Answer, now_s: int) -> None:
        self._exposures.add(
            Exposure(
                request_id=ask.request_id,
                user_id=ask.user_id,
                time_s=now_s,
                item_ids=tuple(answer.item_ids),
                scores=tuple(answer.scores),
                model_version=answer.model_version,
                variants=answer.variants,
                degraded=answer.degraded.cause if answer.degraded else "",
            ),
            ask.marks,
        )


def _stood_in(found: Fallback, cause: str) -> Answer:
    return Answer(found.item_ids, found.scores, degraded=Degraded(found.answered_by, cause))


def _model_request(ask: Ask, user_id: str, history: History, now_s: int) -> RecommendRequest:
    return RecommendRequest(
        user_id=user_id,
        k=ask.k,
        history=history,
        rules=ask.rules,
        objective_weights=ask.objective_weights,
        diversity=ask.diversity,
        exploration_rate=ask.exploration_rate,
        # Of somebody without an id the model knows the time alone: all who ask within a second would explore alike.
        seed=ask.seed or (0 if user_id else crc32(ask.request_id.encode()) >> 1),
        time_s=now_s,
    )
