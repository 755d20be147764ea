"""API keys: how they are made, kept and revoked."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Literal, get_args

from serving.gateway.records import ApiKey
from serving.gateway.stores.base import Store

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)
PREFIX = "zy_"


def make_key(name: str, scopes: tuple[str, ...], time_s: int) -> tuple[str, ApiKey]:
    """A new key: what the caller is given, once, and what is kept.

    Raises ValueError for a scope that does not exist.
    """
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise ValueError(f"scopes: got {', '.join(unknown)}, expected some of {', '.join(SCOPES)}")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return f"{PREFIX}{key_id}_{secret}", ApiKey(key_id, hash_of(secret), scopes, name, time_s)


def hash_of(secret: str) -> str:
    """What is kept of a secret: SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()  # 256 random bits need no slow hash


async def revoke(store: Store, key_id: str, time_s: int) -> bool:
    """Let a key count no more, from the next request on; False where there is none."""
    key = await store.get_key(key_id)
    if key is None:
        return False
    await store.put_key(replace(key, revoked_s=time_s))
    return True
