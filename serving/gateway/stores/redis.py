"""The store in a Redis server, shared by gateways of several machines.

Events and their counts change together in Lua scripts, so a batch is accepted whole. One server, or one with replicas:
the scripts touch keys that a cluster would spread. An acknowledged event is durable where the server runs with
`appendonly yes, appendfsync always`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import redis.asyncio as redis_asyncio
import redis.exceptions
from pydantic_core import from_json

from serving.gateway.records import Acceptance, ApiKey, Event, Exposure, StoredItem, UserState
from serving.gateway.stores import redis_scripts as scripts
from serving.gateway.stores.base import RENAMING, Marks, Store, StoreUnavailable, within
from serving.gateway.stores.redis_values import encoded, exposure_of, item_of, key_of

PREFIX = "zhiyin:"
CONNECT_S = 1.0
REWRITE_POLL_S = 0.05
ROWS_AT_ONCE = 1000


class RedisStore(Store):
    """State in one Redis database, every key under a prefix."""

    def __init__(self, url: str, call_s: float) -> None:
        """url: redis://host:port/db, rediss:// with TLS, unix:// for a socket. call_s: of one call at most."""
        connect = partial(redis_asyncio.from_url, url, decode_responses=True, socket_connect_timeout=CONNECT_S)
        self._redis = connect(socket_timeout=call_s)
        # For what every answer waits for: under a timeout of its own, redis-py sends on a task of its own.
        self._untimed, self._call_s = connect(socket_timeout=None), call_s
        self._warning = ""

    async def open(self) -> None:
        with _unavailable():
            stored = int(await _wait(self._redis.setnx(f"{PREFIX}schema", 1)) or 0)
            version = 1 if stored else int(await self._redis.get(f"{PREFIX}schema"))
            persistence = await self._redis.info("persistence")
            self._warning = await self._durability(bool(persistence.get("aof_enabled")))
        if version > 1:
            raise StoreUnavailable(f"the store has schema version {version}, this release knows 1: update zhiyin")

    async def close(self) -> None:
        await self._untimed.aclose()
        await self._redis.aclose()

    async def ping(self) -> None:
        with _unavailable():
            await _wait(self._redis.ping())

    @property
    def durability_warning(self) -> str:
        return self._warning

    # Events -------------------------------------------------------------------------------------------------------

    async def add_events(self, events: Sequence[Event], marks: Sequence[Marks] = ()) -> list[Acceptance]:
        arguments = [PREFIX]
        for event, one in zip(events, marks or [()] * len(events)):
            time_s = str(event.time_s or 0)  # 0 is the score of an event without a time, too
            text = encoded(event._asdict())
            arguments += [event.event_id, event.user_id, event.item_id, event.event, time_s, text, ",".join(one)]
        with _unavailable():
            return [Acceptance(one) for one in await _wait(self._redis.eval(scripts.ADD_EVENTS, 0, *arguments))]

    async def num_events(self) -> int:
        with _unavailable():
            return int(await self._redis.get(f"{PREFIX}event_seq") or 0)

    async def item_counts(self) -> dict[tuple[str, str], int]:
        with _unavailable():
            counts = await _wait(self._redis.hgetall(f"{PREFIX}item_counts"))
        return {cast("tuple[str, str]", tuple(json.loads(key))): int(count) for key, count in counts.items()}

    async def events_after(self, after: int, limit: int) -> list[tuple[int, Event]]:
        start = f"({after:016d}"
        with _unavailable():
            while seqs := await self._redis.zrangebylex(f"{PREFIX}event_order", start, "+", 0, limit):
                texts = await _wait(self._redis.hmget(f"{PREFIX}events", seqs))
                found = [(int(seq), Event(**json.loads(text))) for seq, text in zip(seqs, texts) if text is not None]
                if found:
                    return found
                start = f"({seqs[-1]}"  # all were forgotten between the two calls
        return []

    # People -------------------------------------------------------------------------------------------------------

    async def user_state(self, user_id: str, marks: Marks, limit: int) -> UserState:
        call = self._untimed.eval(scripts.USER_STATE, 0, PREFIX, user_id, ",".join(marks), str(limit))
        with _unavailable():
            is_forgotten, text = await within(_wait(call), self._call_s)
        return UserState(tuple(Event(**fields) for fields in reversed(from_json(text))), bool(is_forgotten))

    async def forgotten(self, tombstones: Sequence[str]) -> list[bool]:
        if not tombstones:
            return []
        with _unavailable():
            found = await _wait(self._redis.hmget(f"{PREFIX}tombstones", list(tombstones)))
        return [time_s is not None for time_s in found]

    async def put_user(self, user_id: str, fields: Mapping[str, Any], marks: Marks = ()) -> bool:
        arguments = (PREFIX, user_id, encoded(dict(fields)), ",".join(marks))
        with _unavailable():
            return bool(await _wait(self._redis.eval(scripts.PUT_USER, 0, *arguments)))

    async def get_user(self, user_id: str) -> dict[str, Any] | None:
        with _unavailable():
            text = await _wait(self._redis.hget(f"{PREFIX}users", user_id))
        return json.loads(text) if text is not None else None

    async def users(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        with _unavailable():
            found = await _wait(self._redis.hgetall(f"{PREFIX}users"))
        for user_id in sorted(found):
            yield user_id, json.loads(found[user_id])

    async def user_events(self, user_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
        with _unavailable():
            seqs = sorted(await self._redis.zrange(f"{PREFIX}user:{user_id}", 0, -1))
            page = [seq for seq in seqs if int(seq) > after][:limit]
            texts = await _wait(self._redis.hmget(f"{PREFIX}events", page)) if page else []
        return [(int(seq), Event(**json.loads(text))) for seq, text in zip(page, texts) if text is not None]

    async def user_exposures(self, user_id: str) -> list[Exposure]:
        with _unavailable():
            requests = await self._redis.zrange(f"{PREFIX}user_exposures:{user_id}", 0, -1)
            texts = await _wait(self._redis.hmget(f"{PREFIX}exposures", requests)) if requests else []
        return [exposure_of(text) for text in texts if text is not None]

    async def forget_user(self, user_id: str, tombstone: str, time_s: int) -> int:
        with _unavailable():
            deleted = int(await _wait(self._redis.eval(scripts.FORGET, 0, PREFIX, user_id, tombstone, str(time_s))))
        await self.clear_files()
        return deleted

    async def rename_users(self, rename: Callable[[str], str], name: str) -> int:
        users = {user_id async for user_id, _ in self.users()}
        with _unavailable():
            for kind in ("user", "user_exposures"):
                async for key in self._redis.scan_iter(f"{PREFIX}{kind}:*"):
                    users.add(key.removeprefix(f"{PREFIX}{kind}:"))
            for user_id in await self._to_rename(sorted(users), name):
                await self._rename(user_id, rename(user_id))
        return len(users)

    async def _to_rename(self, users: list[str], name: str) -> list[str]:
        """Who is not renamed yet, everybody where the renaming begins; each is taken out as they are renamed."""
        left = sorted(await _wait(self._redis.smembers(f"{PREFIX}to_rename")))
        if await _wait(self._redis.hget(f"{PREFIX}meta", RENAMING)) == name:
            return left
        if left:
            raise ValueError(f"another renaming was cut short and has {len(left):,} people left: it must end first")
        async with self._redis.pipeline(transaction=True) as pipe:
            for at in range(0, len(users), ROWS_AT_ONCE):
                pipe.sadd(f"{PREFIX}to_rename", *users[at : at + ROWS_AT_ONCE])
            pipe.hset(f"{PREFIX}meta", RENAMING, name)
            await pipe.execute()
        return users

    async def clear_files(self) -> None:
        """Has Redis write its files anew, in the background: until then they hold people under their old names."""
        with _unavailable():
            if (await self._redis.info("persistence")).get("aof_enabled"):
                while not await self._rewrites_log():
                    await asyncio.sleep(REWRITE_POLL_S)
            elif await self._redis.lastsave() and (await self._redis.config_get("save")).get("save"):
                await self._redis.bgsave(schedule=True)

    async def _rewrites_log(self) -> bool:
        """Whether a rewriting of the log begins now; one that began before still writes what was there then."""
        try:
            await self._redis.bgrewriteaof()
        except redis.exceptions.ResponseError as error:
            if "in progress" in str(error):
                return False
            raise
        return True

    async def _rename(self, old: str, new: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for kind, names in (("user", "events"), ("user_exposures", "exposures")):
                members = await self._redis.zrange(f"{PREFIX}{kind}:{old}", 0, -1)
                texts = await _wait(self._redis.hmget(f"{PREFIX}{names}", members)) if members else []
                for member, text in zip(members, texts):
                    pipe.hset(f"{PREFIX}{names}", member, encoded({**json.loads(text or "{}"), "user_id": new}))
                if members:
                    pipe.rename(f"{PREFIX}{kind}:{old}", f"{PREFIX}{kind}:{new}")
            if (fields := await _wait(self._redis.hget(f"{PREFIX}users", old))) is not None:
                pipe.hdel(f"{PREFIX}users", old)
                pipe.hset(f"{PREFIX}users", new, fields)
            pipe.srem(f"{PREFIX}to_rename", old)
            await pipe.execute()

    # Items --------------------------------------------------------------------------------------------------------

    async def put_items(self, items: Sequence[StoredItem]) -> list[str]:
        arguments = [PREFIX]
        for item in items:
            arguments += [item.item_id, encoded({**asdict(item), "fields": dict(item.fields)})]
        with _unavailable():
            return await _wait(self._redis.eval(scripts.PUT_ITEMS, 0, *arguments))

    async def get_item(self, item_id: str) -> StoredItem | None:
        with _unavailable():
            text = await _wait(self._redis.hget(f"{PREFIX}items", item_id))
            seq = await self._redis.zscore(f"{PREFIX}item_order", item_id)
        return item_of(text, seq or 0) if text is not None else None

    async def withdraw_item(self, item_id: str) -> bool:
        item = await self.get_item(item_id)
        if item is not None:
            await self.put_items([replace(item, is_withdrawn=True)])
        return item is not None

    async def changed_items(self, after_seq: int, limit: int) -> list[StoredItem]:
        with _unavailable():
            order = await self._redis.zrangebyscore(
                f"{PREFIX}item_order", f"({after_seq}", "+inf", start=0, num=limit, withscores=True
            )
            texts = await _wait(self._redis.hmget(f"{PREFIX}items", [item for item, _ in order])) if order else []
        return [item_of(text, seq) for text, (_, seq) in zip(texts, order) if text is not None]

    # Exposures ----------------------------------------------------------------------------------------------------

    async def add_exposures(self, exposures: Sequence[Exposure], marks: Sequence[Marks] = ()) -> None:
        arguments = [PREFIX]
        for one, of_person in zip(exposures, marks or [()] * len(exposures)):
            text = encoded({**asdict(one), "variants": dict(one.variants)})
            arguments += [one.request_id, one.user_id, str(one.time_s), text, ",".join(of_person)]
        with _unavailable():
            await _wait(self._redis.eval(scripts.ADD_EXPOSURES, 0, *arguments))

    async def exposures(self) -> AsyncIterator[Exposure]:
        start = 0
        while True:
            with _unavailable():
                requests = await self._redis.zrange(f"{PREFIX}exposure_order", start, start + ROWS_AT_ONCE - 1)
                texts = await _wait(self._redis.hmget(f"{PREFIX}exposures", requests)) if requests else []
            for text in texts:
                if text is not None:
                    yield exposure_of(text)
            if not requests:
                return
            start += len(requests)

    # Keys and settings --------------------------------------------------------------------------------------------

    async def put_key(self, key: ApiKey) -> None:
        with _unavailable():
            await _wait(self._redis.hset(f"{PREFIX}keys", key.key_id, encoded(asdict(key))))

    async def get_key(self, key_id: str) -> ApiKey | None:
        with _unavailable():
            text = await _wait(self._redis.hget(f"{PREFIX}keys", key_id))
            used = await _wait(self._redis.hget(f"{PREFIX}key_uses", key_id))
        return key_of(text, used) if text is not None else None

    async def keys(self) -> list[ApiKey]:
        with _unavailable():
            found = await _wait(self._redis.hgetall(f"{PREFIX}keys"))
            used = await _wait(self._redis.hgetall(f"{PREFIX}key_uses"))
        keys = [key_of(text, used.get(key_id)) for key_id, text in found.items()]
        return sorted(keys, key=lambda key: (key.created_s, key.key_id))

    async def touch_key(self, key_id: str, time_s: int) -> None:
        with _unavailable():
            await _wait(self._redis.hset(f"{PREFIX}key_uses", key_id, str(time_s)))

    async def get_meta(self, name: str) -> str | None:
        with _unavailable():
            return await _wait(self._redis.hget(f"{PREFIX}meta", name))

    async def set_meta_once(self, name: str, value: str) -> str:
        with _unavailable():
            await _wait(self._redis.hsetnx(f"{PREFIX}meta", name, value))
            return await _wait(self._redis.hget(f"{PREFIX}meta", name)) or value

    async def _durability(self, is_logged: bool) -> str:
        if not is_logged:
            return "Redis keeps no append-only file (appendonly no): acknowledged events may be lost when it ends"
        synced = (await self._redis.config_get("appendfsync")).get("appendfsync", "")
        if synced != "always":
            return f"Redis syncs its log with appendfsync {synced}: the last second of acknowledged events may be lost"
        return ""


@contextmanager
def _unavailable():
    """Redis' own errors of reaching it and of writing, as the store's."""
    try:
        yield
    except redis.exceptions.RedisError as error:
        raise StoreUnavailable(f"Redis: {error}") from error


def _wait(answer: Any) -> Awaitable[Any]:
    """redis-py declares one type for its blocking and its asynchronous client."""
    return cast("Awaitable[Any]", answer)
