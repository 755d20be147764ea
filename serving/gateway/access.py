"""Who may call, and how often."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from serving.gateway.api_keys import PREFIX, Scope, hash_of
from serving.gateway.problems import Problem
from serving.gateway.records import ApiKey
from serving.gateway.stores.base import Store, StoreUnavailable, within

HAS_KEYS_S = 1.0  # how long the answer to "are there any keys?" holds
REMEMBERED_S = 300.0  # how long a key counts that the store, now away, has confirmed
ASK_S = 0.5  # within which the store must have said what it knows of a key
TOUCH_S = 60.0  # precision of the time of last use
MAX_REMEMBERED = 10_000


class Access:
    """Decides who may call."""

    def __init__(self, store: Store, opens_without_keys: bool, clock: Callable[[], float] = time.time) -> None:
        """opens_without_keys: whether everybody may call while no key is valid, as where only this machine can."""
        self._store, self._opens_without_keys, self._clock = store, opens_without_keys, clock
        self._has_keys, self._asked_at = True, -HAS_KEYS_S
        self._confirmed: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()

    async def has_keys(self) -> bool:
        """Whether any key is valid. While the store is away, what was true last."""
        if self._clock() - self._asked_at >= HAS_KEYS_S:
            self._asked_at = self._clock()  # those who come meanwhile do not wait for a store that may be away
            with suppress(StoreUnavailable):
                self._has_keys = any(not key.revoked_s for key in await within(self._store.keys(), ASK_S))
        return self._has_keys

    @property
    def is_closed(self) -> bool:
        """Whether a key is needed, as far as was known when it was looked last."""
        return self._has_keys or not self._opens_without_keys

    async def check(self, token: str | None, scope: Scope) -> str:
        """The id of the key, "" where none is needed.

        Raises Problem 401 for a key that is missing, wrong or revoked, 403 where it lacks the scope.
        """
        if token is None and self._opens_without_keys and not await self.has_keys():
            return ""
        challenge = {"WWW-Authenticate": "Bearer"}
        key_id, _, secret = (token or "").removeprefix(PREFIX).partition("_")
        key = await self._key(key_id) if token and token.startswith(PREFIX) else None
        expected = key.secret_hash if key else hash_of("")
        is_right = hmac.compare_digest(hash_of(secret), expected)
        if key is None or not is_right or key.revoked_s:
            raise Problem(
                401, "unauthorized", "a valid API key is needed: Authorization: Bearer zy_...", headers=challenge
            )
        if scope not in key.scopes and "admin" not in key.scopes:
            raise Problem(403, "forbidden", f"this key lacks the scope {scope}")
        await self._touch(key)
        return key.key_id

    async def _key(self, key_id: str) -> ApiKey | None:
        now = self._clock()
        try:
            key = await within(self._store.get_key(key_id), ASK_S)
        except StoreUnavailable:
            remembered = self._confirmed.get(key_id)
            if remembered is None or now - remembered[1] > REMEMBERED_S:
                raise Problem(503, "store-unavailable", "keys cannot be checked now", retry_after_s=1) from None
            return remembered[0]
        if key is not None:
            self._confirmed[key_id] = (key, now)
            self._confirmed.move_to_end(key_id)
            while len(self._confirmed) > MAX_REMEMBERED:
                self._confirmed.popitem(last=False)
        return key

    async def _touch(self, key: ApiKey) -> None:
        now = int(self._clock())
        if now - key.last_used_s >= TOUCH_S:
            try:
                await within(self._store.touch_key(key.key_id, now), ASK_S)
            except StoreUnavailable:
                return  # the time of last use is not worth an answer


class RateLimit:
    """A token bucket for each key, or for each address where no key is needed; of this gateway alone."""

    def __init__(self, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate_per_s, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller -> tokens, when

    def take(self, caller: str) -> None:
        """Count a request.

        Raises Problem 429 with Retry-After where there were too many.
        """
        now = self._clock()
        tokens, then = self._buckets.get(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        self._buckets[caller] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        if tokens < 1:
            wait_s = max(1, round((1 - tokens) / self._rate + 0.5))
            raise Problem(429, "too-many-requests", f"more than {self._rate:g} requests a second", retry_after_s=wait_s)
